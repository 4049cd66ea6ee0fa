import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import pytest

from ensembles.bundle import Bundle, Capabilities
from gateway.doors import Doors
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    InvalidRequest,
    MediaRefused,
    Overloaded,
    PixserveError,
    Unavailable,
)
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.index.schema import Engine
from gateway.schemas import LegWeights
from gateway.search.legs import Found, plan_legs, run_legs
from gateway.search.query import Query
from gateway.triton import Triton
from tests.conftest import free_port
from tests.corpora import add_video, opened_doors, picture
from tests.fake_triton import FakeTriton, check_query_embeddings, meaning
from tests.media import image_bytes, wav_bytes

WORDS = Query("baking a loaf", b"", b"", 1.0)
MINI = Capabilities(words_to_pixels=False, words_to_sounds=False, fusion_trained=False)
FULL = Capabilities(words_to_pixels=True, words_to_sounds=False, fusion_trained=True)
HEARS = Capabilities(words_to_pixels=False, words_to_sounds=True, fusion_trained=False)


@pytest.fixture
async def doors(bundle: Bundle, milvus_uri: str, tmp_path: Path) -> AsyncIterator[Doors]:
    async with opened_doors(bundle, milvus_uri, tmp_path) as opened:
        await add_video(opened, "bread", ["put the dough into the oven", "now eat"])
        yield opened


def with_triton(doors: Doors, **behaviour: object) -> Doors:
    fake = FakeTriton(doors.bundle, **behaviour)  # type: ignore[arg-type]
    return replace(doors, triton=cast(Triton, fake))


def calls(doors: Doors) -> list[str]:
    return cast(FakeTriton, doors.triton).calls


async def run(doors: Doors, query: Query = WORDS, timeout_s: float = 5.0) -> Found:
    plan = plan_legs(query, doors.bundle.capabilities)
    return await run_legs(plan, query, doors, "", k=10, timeout_s=timeout_s)


# ---- which legs


def test_words_search_sentences_and_keywords_where_they_cannot_be_compared_with_pixels() -> None:
    assert plan_legs(WORDS, MINI) == {"keyword": "words", "speech": "sentence"}


def test_words_search_pixels_too_where_they_can() -> None:
    expected = {"keyword": "words", "speech": "sentence", "visual": "clip", "fused": "clip"}
    assert plan_legs(WORDS, FULL) == expected


def test_an_image_searches_by_its_looks_even_beside_words() -> None:
    image = Query("", b"image", b"", 1.0)
    assert plan_legs(image, MINI) == {"visual": "image"}
    both = plan_legs(replace(image, text="words"), FULL)
    assert (both["visual"], both["fused"], both["speech"]) == ("image", "image", "sentence")


def test_a_sound_searches_by_its_sound() -> None:
    assert plan_legs(Query("", b"", b"sound", 1.0), FULL) == {"sound": "sound"}


def test_words_search_sounds_where_they_share_a_space() -> None:
    assert plan_legs(WORDS, HEARS)["sound"] == "clip"
    assert plan_legs(WORDS, HEARS, LegWeights(sound=1.0)) == {"sound": "clip"}


def test_a_sound_searches_by_its_sound_even_beside_words() -> None:
    both = plan_legs(replace(WORDS, audio=b"sound"), HEARS)
    assert (both["sound"], both["speech"]) == ("sound", "sentence")


def test_a_leg_without_weight_is_not_run() -> None:
    assert plan_legs(WORDS, MINI, LegWeights(keyword=0.1)) == {"keyword": "words"}


@pytest.mark.parametrize("weights", [LegWeights(), LegWeights(visual=1.0)])
def test_weights_that_leave_no_leg_are_refused(weights: LegWeights) -> None:
    with pytest.raises(InvalidRequest, match="keyword, speech"):
        plan_legs(WORDS, MINI, weights)


# ---- running them

pytestmark = pytest.mark.anyio


async def test_the_fake_keeps_the_contract(bundle: Bundle) -> None:
    await check_query_embeddings(FakeTriton(bundle), bundle, image_bytes("png"))


async def test_words_are_found_by_meaning_and_by_keyword(doors: Doors) -> None:
    found = await run(doors)
    assert found.degraded == ()
    assert found.candidates["speech"][0].segment_id == "bread-000000000"
    assert found.candidates["keyword"] == ()
    assert found.embed_s >= 0
    assert found.legs_s > 0


async def test_only_the_vectors_that_are_needed_are_asked_for_and_then_remembered(
    doors: Doors,
) -> None:
    await run(doors)
    await run(doors)
    assert calls(doors) == ["embed_text query"]
    assert (doors.embeddings.hits, doors.embeddings.misses) == (1, 1)
    able = replace(doors, bundle=msgspec.structs.replace(doors.bundle, capabilities=FULL))
    await run(able)
    assert calls(doors) == ["embed_text query", "embed_clip_text"]
    await run(able, replace(WORDS, text="other words"))
    assert calls(doors)[2:] == ["embed_query"]


async def test_an_image_is_found_by_its_looks(doors: Doors) -> None:
    found = await run(doors, Query("", picture("bread", 1), b"", 1.0))
    best = found.candidates["visual"][0]
    assert best.segment_id == "bread-000005000"
    assert best.raw == pytest.approx(1, abs=1e-4)


async def test_a_sound_is_decoded_and_searched(doors: Doors) -> None:
    found = await run(doors, Query("", b"", wav_bytes(), 5.0), timeout_s=20)
    assert found.candidates == {"sound": ()}


async def test_words_find_sounds_by_one_embedding(doors: Doors, bundle: Bundle) -> None:
    dims = msgspec.structs.replace(bundle.dims, audio=bundle.dims.vision)
    shared = msgspec.structs.replace(bundle, version=1_000_000, capabilities=HEARS, dims=dims)
    row = IndexRow(
        segment_id="whistle-000000000",
        video_id="whistle",
        creator_id="anna",
        title="",
        category=None,
        language=None,
        tags=(),
        duration_s=5.0,
        text="",
        sound=meaning("a rising whistle", dims.vision),
    )
    able = with_triton(replace(doors, bundle=shared))
    await able.milvus.ensure_collections(shared, timeout_s=10)
    await able.milvus.write(shared, [row], timeout_s=10)
    found = await run(able, replace(WORDS, text="a rising whistle"))
    best = found.candidates["sound"][0]
    assert (best.segment_id, best.raw) == ("whistle-000000000", pytest.approx(1, abs=1e-4))
    assert calls(able) == ["embed_query"]  # both vectors in one call


async def test_words_find_sounds_by_an_encoder_of_their_own_where_there_is_one(
    doors: Doors,
) -> None:
    heard = Capabilities(words_to_pixels=True, words_to_sounds=True, fusion_trained=False)
    plan = plan_legs(WORDS, heard, sound_text=True)
    assert (plan["sound"], plan["visual"]) == ("sound_text", "clip")
    bundle = msgspec.structs.replace(doors.bundle, capabilities=heard)
    able = with_triton(replace(doors, bundle=bundle))
    query = replace(WORDS, text="the sound of a kitten")
    found = await run_legs(plan, query, able, "", k=10, timeout_s=5)
    assert found.degraded == ()
    assert sorted(calls(able)) == ["embed_query", "embed_sound_text"]
    await run_legs(plan, query, able, "", k=10, timeout_s=5)
    assert len(calls(able)) == 2  # both are remembered


async def test_a_bundle_whose_sounds_have_another_size_is_refused(doors: Doors) -> None:
    dims = msgspec.structs.replace(doors.bundle.dims, audio=doors.bundle.dims.vision + 1)
    broken = msgspec.structs.replace(doors.bundle, capabilities=HEARS, dims=dims)
    with pytest.raises(ConfigurationError, match="export it again"):
        await run(replace(doors, bundle=broken))


async def test_a_sound_that_is_none_is_refused(doors: Doors) -> None:
    with pytest.raises(MediaRefused):
        await run(doors, Query("words", b"", b"no sound at all", 5.0), timeout_s=20)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("triton", "no"), "speech: triton unavailable"),
        (DeadlineExceeded("triton", "no"), "speech: late"),
        (Overloaded("full"), "speech: overloaded"),
    ],
)
async def test_without_triton_keywords_still_answer(
    doors: Doors, error: PixserveError, reason: str
) -> None:
    found = await run(with_triton(doors, error=error), replace(WORDS, text="dough"))
    assert found.degraded == (reason,)
    assert [c.segment_id for c in found.candidates["keyword"]] == ["bread-000000000"]


async def test_a_late_embedding_costs_its_leg_and_no_more_than_the_deadline(doors: Doors) -> None:
    start = time.perf_counter()
    found = await run(with_triton(doors, delay_s=60), timeout_s=0.3)
    assert found.degraded == ("speech: late",)
    assert "keyword" in found.candidates
    assert 0.25 < found.embed_s <= time.perf_counter() - start < 2


async def test_keywords_do_not_wait_for_the_embedding(doors: Doors) -> None:
    slow = with_triton(doors, delay_s=60)
    task = asyncio.create_task(run(slow, timeout_s=60))
    found = await doors.milvus.search_keyword(
        doors.bundle, "dough", k=1, expression="", timeout_s=5
    )
    assert found
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_where_no_leg_answers_the_part_at_fault_is_named(doors: Doors) -> None:
    nowhere = replace(doors, milvus=Milvus(f"http://127.0.0.1:{free_port()}"))
    with pytest.raises(Unavailable) as caught:
        await run(nowhere)
    assert (caught.value.part, caught.value.status) == ("milvus", 503)
    await nowhere.milvus.close()


async def test_where_all_legs_are_late_the_deadline_is_named(doors: Doors) -> None:
    with pytest.raises(DeadlineExceeded):
        await run(doors, timeout_s=0)


async def test_what_triton_refuses_ends_the_search(doors: Doors) -> None:
    refused = with_triton(doors, error=MediaRefused("not_media", "no image"))
    query = Query("dough", b"x", b"", 1.0)
    with pytest.raises(MediaRefused, match="no image"):
        await run(refused, query)


async def test_an_engine_without_bm25_costs_the_keyword_leg(doors: Doors) -> None:
    doors.milvus._engine = Engine("Milvus v2.3.5", vector_index="FLAT", bm25=False)
    found = await run(doors)
    assert found.degraded == ("keyword: Milvus v2.3.5 has no BM25",)
    assert found.candidates["speech"]
