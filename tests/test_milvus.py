import asyncio
import base64
import os
import re
import signal
import socket
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import msgspec
import numpy as np
import pytest
from pymilvus.grpc_gen import milvus_pb2, milvus_pb2_grpc

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    PixserveError,
    Unavailable,
    Unsupported,
)
from gateway.index.calls import CollectionMissing, rpc_error, status_error
from gateway.index.milvus import MAX_ROWS_PER_CALL, Milvus
from gateway.index.rows import IndexRow, VideoFields
from gateway.index.schema import Engine, collection_name, dimension, engine
from gateway.schemas import LegName
from gateway.search.filters import equals
from tests.conftest import free_port, start_milvus
from tests.corpora import index_row

pytestmark = pytest.mark.anyio

T = 30.0
SERVER = "MILVUS_TEST_URI"  # a running Milvus on which this suite is run too; docs/benchmarks.md


@pytest.fixture(scope="module", params=["embedded", "server"])
def milvus_uri(request: pytest.FixtureRequest, milvus_uri: str) -> str:
    """Each engine that is supported: all must keep the same contract."""
    if request.param == "embedded":
        return milvus_uri
    if SERVER not in os.environ:
        pytest.skip(f"{SERVER} names no running Milvus")
    return os.environ[SERVER]


@pytest.fixture
async def bm25(milvus: Milvus, bundle: Bundle) -> bool:
    """Whether the engine has the keyword leg; where it has none, its searches say so."""
    if "keyword" in await milvus.legs(timeout_s=T):
        return True
    with pytest.raises(Unsupported, match="has no BM25"):
        await milvus.search_keyword(bundle, "words", k=10, expression="", timeout_s=T)
    return False


@pytest.fixture
def needs_bm25(bm25: bool) -> None:
    if not bm25:
        pytest.skip("this Milvus has no BM25")


@pytest.fixture
async def milvus(milvus_uri: str, bundle: Bundle) -> AsyncIterator[Milvus]:
    door = Milvus(milvus_uri)
    await door.ensure_collections(bundle, timeout_s=T)
    yield door
    await door.inventory.drop(bundle, timeout_s=T)
    await door.close()


def unit(bundle: Bundle, leg: LegName, seed: int) -> FloatArray:
    vector = np.random.default_rng(seed).standard_normal(dimension(bundle, leg))
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def row(bundle: Bundle, number: int, text: str = "", video_id: str = "video") -> IndexRow:
    return index_row(
        video_id,
        number,
        creator_id="creator",
        category="music",
        tags=("red", "blue"),
        duration_s=30.0,
        text=text,
        visual=unit(bundle, "visual", number),
        speech=unit(bundle, "speech", number) if text else None,
    )


async def nearest(door: Milvus, bundle: Bundle, number: int, expression: str = "") -> list[str]:
    found = await door.search_vector(
        bundle,
        "visual",
        unit(bundle, "visual", number),
        k=100,
        expression=expression,
        timeout_s=T,
    )
    return [candidate.segment_id for candidate in found]


async def keyword(door: Milvus, bundle: Bundle, text: str) -> list[str]:
    found = await door.search_keyword(bundle, text, k=10, expression="", timeout_s=T)
    return [candidate.segment_id for candidate in found]


async def test_an_acknowledged_write_is_found_by_the_next_search(
    milvus: Milvus, bundle: Bundle
) -> None:
    for number in range(20):
        await milvus.write(bundle, [row(bundle, number)], timeout_s=T)
        assert (await nearest(milvus, bundle, number))[0] == f"video-{number:09d}"


async def test_candidates_carry_video_and_cosine_best_first(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [row(bundle, number) for number in range(3)], timeout_s=T)
    query = unit(bundle, "visual", 1)
    found = await milvus.search_vector(bundle, "visual", query, k=2, expression="", timeout_s=T)
    cosines = {number: float(unit(bundle, "visual", number) @ query) for number in range(3)}
    best = sorted(cosines, key=lambda number: -cosines[number])[:2]
    assert [c.segment_id for c in found] == [f"video-{number:09d}" for number in best]
    assert {c.video_id for c in found} == {"video"}
    assert [c.raw for c in found] == pytest.approx([cosines[n] for n in best], abs=1e-5)


@pytest.mark.usefixtures("needs_bm25")
async def test_writing_a_row_again_replaces_it(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [row(bundle, 1, "first words")], timeout_s=T)
    await milvus.write(bundle, [row(bundle, 1, "other speech")], timeout_s=T)
    assert await milvus.count(bundle, "keyword", timeout_s=T) == 1
    assert await keyword(milvus, bundle, "words") == []
    assert await keyword(milvus, bundle, "speech") == ["video-000000001"]


async def test_a_row_goes_only_into_the_legs_it_has(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [row(bundle, 1), row(bundle, 2, "said")], timeout_s=T)
    counts = [
        await milvus.count(bundle, leg, timeout_s=T) for leg in await milvus.legs(timeout_s=T)
    ]
    # The tags are keywords of the silent segment too.
    assert counts == [2, 1, 0, 0, 2][: len(counts)]


async def test_more_rows_than_one_call_takes_are_all_written(
    milvus: Milvus, bundle: Bundle
) -> None:
    rows = [row(bundle, number, "many") for number in range(MAX_ROWS_PER_CALL + 7)]
    await milvus.write(bundle, rows, timeout_s=30)
    assert await milvus.count(bundle, "speech", timeout_s=T) == len(rows)
    fields = VideoFields(title="", category="sport", language=None, tags=())
    await milvus.update_video(bundle, "video", fields, timeout_s=30)
    expression = equals("category", "sport")
    assert len(await nearest(milvus, bundle, 1, expression)) == 100


@pytest.mark.usefixtures("needs_bm25")
async def test_keywords_are_stemmed_and_stop_words_find_nothing(
    milvus: Milvus, bundle: Bundle
) -> None:
    rows = [row(bundle, 1, "how the runners were running"), row(bundle, 2, "a cup of tea")]
    await milvus.write(bundle, rows, timeout_s=T)
    assert await keyword(milvus, bundle, "run") == ["video-000000001"]
    assert await keyword(milvus, bundle, "The of WERE how do I") == []
    assert await keyword(milvus, bundle, "Runners") == ["video-000000001"]
    assert await keyword(milvus, bundle, "!!! ''") == []


@pytest.mark.usefixtures("needs_bm25")
async def test_accents_do_not_matter_to_keywords(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [row(bundle, 1, "crème brûlée")], timeout_s=T)
    assert await keyword(milvus, bundle, "CREME") == ["video-000000001"]


@pytest.mark.usefixtures("needs_bm25")
async def test_title_and_tags_are_keywords(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [replace(row(bundle, 1), title="Volcano")], timeout_s=T)
    assert await keyword(milvus, bundle, "volcano") == ["video-000000001"]
    assert await keyword(milvus, bundle, "blue") == ["video-000000001"]


@pytest.mark.usefixtures("needs_bm25")
async def test_a_text_longer_than_milvus_takes_is_cut(milvus: Milvus, bundle: Bundle) -> None:
    await milvus.write(bundle, [row(bundle, 1, "lava " + "é" * 100_000)], timeout_s=T)
    assert await keyword(milvus, bundle, "lava") == ["video-000000001"]


async def test_deleting_a_video_leaves_the_others(milvus: Milvus, bundle: Bundle) -> None:
    rows = [row(bundle, 1, "one", "first"), row(bundle, 2, "two", "second")]
    await milvus.write(bundle, rows, timeout_s=T)
    await milvus.delete_video(bundle, "first", timeout_s=T)
    assert await nearest(milvus, bundle, 1) == ["second-000000002"]
    assert await milvus.count(bundle, "speech", "first", timeout_s=T) == 0
    await milvus.delete_video(bundle, "first", timeout_s=T)


async def test_a_patch_changes_filters_and_keywords_and_keeps_the_rest(
    milvus: Milvus, bundle: Bundle, bm25: bool
) -> None:
    rows = [row(bundle, 1, "lava", "first"), row(bundle, 2, "lava", "second")]
    await milvus.write(bundle, rows, timeout_s=T)
    fields = VideoFields(title="Etna", category="nature", language="it", tags=("sicily",))
    await milvus.update_video(bundle, "first", fields, timeout_s=T)
    both = 'category == "nature" and language == "it" and ARRAY_CONTAINS(tags, "sicily")'
    assert await nearest(milvus, bundle, 1, both) == ["first-000000001"]
    assert await nearest(milvus, bundle, 2, 'category == "music"') == ["second-000000002"]
    if bm25:
        assert await keyword(milvus, bundle, "etna") == ["first-000000001"]
        found = sorted(await keyword(milvus, bundle, "lava"))
        assert found == ["first-000000001", "second-000000002"]
    assert await milvus.count(bundle, "speech", timeout_s=T) == 2
    await milvus.update_video(bundle, "unknown", fields, timeout_s=T)


async def test_two_processes_may_make_the_collections_at_once(
    milvus_uri: str, bundle: Bundle
) -> None:
    doors = [Milvus(milvus_uri) for _ in range(3)]
    await asyncio.gather(*(door.ensure_collections(bundle, timeout_s=T) for door in doors))
    await doors[0].write(bundle, [row(bundle, 1)], timeout_s=T)
    assert await nearest(doors[1], bundle, 1) == ["video-000000001"]
    await asyncio.gather(*(door.close() for door in doors))


async def test_a_collection_of_other_dimensions_is_refused(milvus: Milvus, bundle: Bundle) -> None:
    wider = msgspec.structs.replace(bundle, dims=msgspec.structs.replace(bundle.dims, sentence=64))
    with pytest.raises(ConfigurationError, match=collection_name(bundle, "speech")):
        await milvus.ensure_collections(wider, timeout_s=T)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros(16, np.float32),
        np.full(16, np.nan, np.float32),
        np.full(16, np.inf, np.float32),
        np.ones(16, np.float32),
        np.eye(1, 17, dtype=np.float32)[0],
        np.eye(1, 16, dtype=np.float32),
        np.eye(1, 16)[0],
    ],
    ids=["zero", "nan", "infinite", "long", "wide", "two axes", "float64"],
)
async def test_a_vector_that_is_none_of_the_leg_is_refused(
    milvus: Milvus, bundle: Bundle, wrong: FloatArray
) -> None:
    with pytest.raises(InvalidRequest, match="visual"):
        await milvus.search_vector(bundle, "visual", wrong, k=1, expression="", timeout_s=T)
    with pytest.raises(InvalidRequest, match="visual"):
        await milvus.write(bundle, [replace(row(bundle, 1), visual=wrong)], timeout_s=T)
    assert await milvus.count(bundle, "visual", timeout_s=T) == 0


async def test_an_expression_that_is_none_is_an_error(milvus: Milvus, bundle: Bundle) -> None:
    with pytest.raises(InvalidRequest, match="expr"):
        await nearest(milvus, bundle, 1, "category ==")


async def test_a_collection_that_is_missing_is_unavailable(milvus_uri: str, bundle: Bundle) -> None:
    door = Milvus(milvus_uri)
    with pytest.raises(Unavailable, match="not there yet"):
        await nearest(door, bundle, 1)
    await door.close()


async def test_no_server_is_told_at_once(bundle: Bundle) -> None:
    door = Milvus(f"http://127.0.0.1:{free_port()}")
    start = time.monotonic()
    with pytest.raises(Unavailable, match="not reachable") as caught:
        await nearest(door, bundle, 1)
    assert (caught.value.part, caught.value.status) == ("milvus", 503)
    assert time.monotonic() - start < T / 2
    assert not await door.ready(timeout_s=1)
    await door.close()


async def test_no_time_is_a_deadline_exceeded(milvus: Milvus, bundle: Bundle) -> None:
    with pytest.raises(DeadlineExceeded):
        await milvus.count(bundle, "visual", timeout_s=0)
    with pytest.raises(DeadlineExceeded):
        await milvus.count(bundle, "visual", timeout_s=1e-6)


async def test_a_server_that_does_not_answer_is_left_in_time(bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = Milvus(f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await door.count(bundle, "visual", timeout_s=0.2)
        assert 0.15 < time.monotonic() - start < 2
        assert not await door.ready(timeout_s=0.2)
        await door.close()


async def test_a_cancelled_search_ends_at_once(bundle: Bundle) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        door = Milvus(f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await door.count(bundle, "visual", timeout_s=60)
        await door.close()


async def test_a_server_that_stands_still_is_sent_few_calls_and_then_used_again(
    tmp_path: Path, bundle: Bundle
) -> None:
    address = f"127.0.0.1:{free_port()}"
    door = Milvus(f"http://{address}")
    with start_milvus(tmp_path, address) as process:
        await door.ensure_collections(bundle, timeout_s=T)
        process.send_signal(signal.SIGSTOP)
        told = []
        for _ in range(20):
            with pytest.raises(Unavailable) as caught:
                await door.count(bundle, "visual", timeout_s=0.06)
            told.append(type(caught.value))
        assert told == [DeadlineExceeded] * 2 + [Unavailable] * 18
        process.send_signal(signal.SIGCONT)
        until = time.monotonic() + T
        # What was sent is worked off first; there is no event to wait for.
        while not await door.ready(timeout_s=1) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        assert await door.count(bundle, "visual", timeout_s=T) == 0
        await door.close()
        process.kill()


async def test_a_closed_door_says_so(milvus_uri: str, bundle: Bundle) -> None:
    door = Milvus(milvus_uri)
    await door.close()
    with pytest.raises(Unavailable, match="closed"):
        await door.count(bundle, "visual", timeout_s=T)


async def test_vectors_are_read_back_page_by_page(
    milvus: Milvus, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.index.inventory.PAGE_ROWS", 7)
    rows = [row(bundle, number) for number in range(25)]
    await milvus.write(bundle, rows, timeout_s=T)
    pages = [p async for p in milvus.inventory.vectors(bundle, "visual", timeout_s=T)]
    assert [len(ids) for ids, _ in pages] == [7, 7, 7, 4]
    assert [name for ids, _ in pages for name in ids] == [row.segment_id for row in rows]
    for number, vector in enumerate(np.concatenate([vectors for _, vectors in pages])):
        np.testing.assert_allclose(vector, unit(bundle, "visual", number), atol=1e-6)


async def test_rows_survive_a_crash_and_the_door_finds_the_server_again(
    tmp_path: Path, bundle: Bundle
) -> None:
    address = f"127.0.0.1:{free_port()}"
    door = Milvus(f"http://{address}")
    with start_milvus(tmp_path, address) as process:
        await door.ensure_collections(bundle, timeout_s=T)
        await door.write(bundle, [row(bundle, 1, "kept")], timeout_s=T)
        process.kill()
    with pytest.raises(Unavailable):
        await nearest(door, bundle, 1)
    with start_milvus(tmp_path, address) as process:
        until = time.monotonic() + T
        # The channel reconnects in its own time; there is no event to wait for.
        while not await door.ready(timeout_s=1) and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        await door.ensure_collections(bundle, timeout_s=T)
        assert await nearest(door, bundle, 1) == ["video-000000001"]
        assert await keyword(door, bundle, "kept") == ["video-000000001"]
        await door.close()
        process.kill()


@pytest.mark.parametrize("code", list(grpc.StatusCode))
def test_every_failure_of_grpc_has_an_error_of_ours(code: grpc.StatusCode) -> None:
    error = rpc_error("host:1", "Search", code, "details")
    expected = {
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceeded,
        grpc.StatusCode.UNIMPLEMENTED: Unsupported,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidRequest,
        grpc.StatusCode.OUT_OF_RANGE: InvalidRequest,
    }
    assert type(error) is expected.get(code, Unavailable)
    assert "Milvus" in error.message
    assert "host:1" not in error.message


@pytest.mark.parametrize(
    ("code", "kind"),
    [(1, Unavailable), (8, Unavailable), (100, CollectionMissing), (65535, Unavailable)]
    + [(code, InvalidRequest) for code in (1100, 1101, 1199)],
)
def test_every_failure_of_milvus_has_an_error_of_ours(code: int, kind: type[PixserveError]) -> None:
    error = status_error("Search", code, "x" * 10_000)
    assert type(error) is kind
    assert len(error.message) < 500


def test_a_filter_that_an_old_milvus_cannot_parse_is_an_invalid_request() -> None:
    reason = "failed to create query plan: cannot parse expression: a ==, error: line 1:4"
    assert type(status_error("Search", 65535, reason)) is InvalidRequest


async def test_credentials_travel_with_every_call() -> None:
    seen: list[str] = []

    class Service(milvus_pb2_grpc.MilvusServiceServicer):  # type: ignore[misc]
        async def CheckHealth(self, _: object, context: Any) -> object:  # noqa: N802
            seen.append(dict(context.invocation_metadata())["authorization"])
            return milvus_pb2.CheckHealthResponse(isHealthy=True)

        async def GetVersion(self, *_: object) -> object:  # noqa: N802
            return milvus_pb2.GetVersionResponse(version="v2.6.0")

    server = grpc.aio.server()
    milvus_pb2_grpc.add_MilvusServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    door = Milvus(f"http://root:pass%2Fword@127.0.0.1:{port}")
    assert await door.ready(timeout_s=T)
    assert base64.b64decode(seen[0]) == b"root:pass/word"
    await door.close()
    await server.stop(None)


@pytest.mark.parametrize("uri", ["", "127.0.0.1:19530", "ftp://a:1", "http://a", "http://a:x"])
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="http://HOST:PORT"):
        Milvus(uri)


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (None, ("FLAT", True)),
        ("v2.3.5-lite", ("HNSW", False)),
        ("v2.4.15", ("HNSW", False)),
        ("v2.5.0", ("HNSW", True)),
        ("2.6.1", ("HNSW", True)),
        ("v2.10.0-rc1", ("HNSW", True)),
    ],
)
def test_the_version_says_what_an_engine_can_do(
    version: str | None, expected: tuple[str, bool]
) -> None:
    known = engine(version)
    assert (known.vector_index, known.bm25) == expected


async def test_without_bm25_the_keyword_leg_says_so_and_the_others_work(
    milvus_uri: str, bundle: Bundle
) -> None:
    door = Milvus(milvus_uri)
    # The only seam: what the server of Milvus 2.3 would have told.
    door._engine = Engine("Milvus v2.3.5", vector_index="FLAT", bm25=False)
    await door.ensure_collections(bundle, timeout_s=T)
    await door.write(bundle, [row(bundle, 1, "said")], timeout_s=T)
    assert await nearest(door, bundle, 1) == ["video-000000001"]
    with pytest.raises(Unsupported, match=r"v2\.3\.5 has no BM25"):
        await keyword(door, bundle, "said")
    await door.delete_video(bundle, "video", timeout_s=T)
    await door.close()


def test_nothing_else_imports_pymilvus() -> None:
    root = Path(__file__).parent.parent
    packages = ("deploy", "ensembles", "export", "gateway", "ingest", "loadtest", "training")
    peer = "loadtest/peers/plain_server.py"  # what most people write, with what they write it with
    importing = {
        str(path.relative_to(root))
        for package in packages
        for path in (root / package).rglob("*.py")
        if re.search(r"^\s*(import|from) pymilvus", path.read_text(), re.MULTILINE)
    }
    ours = {f"gateway/index/{name}.py" for name in ("calls", "schema", "wire")}
    assert importing == {*ours, peer}


async def test_an_index_of_another_metric_is_made_again_and_keeps_its_rows(
    milvus_uri: str, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = msgspec.structs.replace(bundle, version=bundle.version + 7_000)
    door = Milvus(milvus_uri)
    try:
        with monkeypatch.context() as patch:
            patch.setattr("gateway.index.schema.METRIC", "COSINE")
            await door.ensure_collections(older, timeout_s=T)
            await door.write(older, [row(older, n) for n in range(20)], timeout_s=T)
        with pytest.raises(PixserveError):  # what kind of one, engines differ in
            await door.search_vector(
                older, "visual", unit(older, "visual", 3), k=1, expression="", timeout_s=T
            )
        await door.ensure_collections(older, timeout_s=T)
        (found,) = await door.search_vector(
            older, "visual", row(older, 3).vector("visual"), k=1, expression="", timeout_s=T
        )
        assert found.segment_id == row(older, 3).segment_id
        assert found.raw == pytest.approx(1, abs=1e-5)
    finally:
        await door.inventory.drop(older, timeout_s=T)
        await door.close()
