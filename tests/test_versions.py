"""Versions of the index: what the catalogue says of them, and requests that never mix them."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle, bundle_folder
from gateway.api.copies import copy_metadata
from gateway.catalogue.catalogue import Catalogue
from gateway.comparison import compare, questions
from gateway.doors import Doors
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.schemas import SearchRequest, VideoPatch
from gateway.search.search import search
from gateway.serving import Serving, bundle_named
from gateway.triton import QueryEmbeddings, Triton
from tests.conftest import make_bundle
from tests.corpora import add_video, opened_doors
from tests.fake_triton import FakeTriton

T = 10.0
SHIFT = 7  # how the second version's vectors differ: each number is that many places on
TEXTS = ["put the dough into the oven", "every chord has strings", "lava left the crater"]


class ShiftedTriton(FakeTriton):
    """Another version's models: the same meanings, in a space of their own."""

    def __init__(self, bundle: Bundle, shift: int) -> None:
        super().__init__(bundle)
        self._shift = shift

    async def ready(self, *, timeout_s: float) -> bool:
        return timeout_s > 0

    async def embed_query(self, text: str, *, timeout_s: float) -> QueryEmbeddings:
        found = await super().embed_query(text, timeout_s=timeout_s)
        await asyncio.sleep(0.002)  # a switch comes in between
        return QueryEmbeddings(self._moved(found.clip), self._moved(found.sentence))

    async def embed_text(self, texts: object, role: str, *, timeout_s: float) -> FloatArray:
        rows = await super().embed_text(cast("list[str]", texts), role, timeout_s=timeout_s)
        await asyncio.sleep(0.002)
        return self._moved(rows)

    def _moved(self, rows: FloatArray) -> FloatArray:
        return np.roll(rows, self._shift, axis=-1)


class ShiftedRows:
    """Writes rows as the second version's models would have made them."""

    def __init__(self, doors: Doors, shift: int) -> None:
        self._milvus, self._shift = doors.milvus, shift

    async def write(self, bundle: Bundle, rows: list, *, timeout_s: float) -> None:  # type: ignore[type-arg]
        moved = [replace(row, visual=None, speech=np.roll(row.speech, self._shift)) for row in rows]
        await self._milvus.write(bundle, moved, timeout_s=timeout_s)


@pytest.fixture
async def pair(milvus_uri: str, tmp_path: Path) -> AsyncIterator[tuple[Doors, Doors]]:
    """Doors to two versions of one corpus."""
    one, other = make_bundle(), make_bundle()
    async with opened_doors(one, milvus_uri, tmp_path, data_dir=str(tmp_path), profile="test") as d:
        for bundle in (one, other):
            folder = bundle_folder(d.settings.models_dir, bundle.profile, bundle.version)
            folder.mkdir(parents=True)
            (folder / "bundle.json").write_bytes(msgspec.json.encode(bundle))
        await d.milvus.ensure_collections(other, timeout_s=T)
        first = replace(d, triton=cast(Triton, ShiftedTriton(one, 0)))
        second = replace(d, bundle=other, triton=cast(Triton, ShiftedTriton(other, SHIFT)))
        for number, text in enumerate(TEXTS):
            await add_video(first, f"video-{number}", [text], category="music")
            shifted = replace(second, milvus=cast("object", ShiftedRows(d, SHIFT)))  # type: ignore[arg-type]
            await add_video(shifted, f"video-{number}", [text], category="music")
        d.catalogue.versions.switch(one.id)
        yield first, second


@pytest.mark.anyio
async def test_no_request_mixes_versions_while_they_are_switched(pair: tuple[Doors, Doors]) -> None:
    one, other = pair
    serving = Serving(one, connect=lambda _: other.triton)
    names = [one.bundle.id, other.bundle.id]
    seen: list[str] = []

    async def searches(worker: int) -> None:
        for turn in range(30):
            doors = serving.doors
            # Each query is new, so that none is answered from the cache of embeddings.
            request = SearchRequest(query=f"baking {worker} {turn}", deadline_ms=20_000)
            reply = await search(request, doors, doors.settings)
            (speech,) = [
                part for part in reply.hits[0].moments[0].parts.legs if part.leg == "speech"
            ]
            assert reply.hits[0].video_id == "video-0"
            assert speech.raw > 0.8, "a query of one version met the vectors of the other"
            seen.append(reply.model_version)

    async def switches() -> None:
        for turn in range(1, 1_000):
            one.catalogue.versions.switch(names[turn % 2])
            await serving.look()
            assert serving.doors.bundle.id == names[turn % 2]
            await asyncio.sleep(0.003)

    switching = asyncio.create_task(switches())
    await asyncio.gather(*(searches(worker) for worker in range(8)))
    switching.cancel()
    assert set(seen) == set(names)


@pytest.mark.anyio
async def test_the_two_versions_of_this_test_do_not_understand_each_other(
    pair: tuple[Doors, Doors],
) -> None:
    one, other = pair
    mixed = replace(one, bundle=other.bundle)
    request = SearchRequest(query="baking", deadline_ms=20_000)
    reply = await search(request, mixed, mixed.settings)
    parts = [p for hit in reply.hits for p in hit.moments[0].parts.legs if p.leg == "speech"]
    assert all(part.raw < 0.8 for part in parts)


@pytest.mark.anyio
async def test_a_switch_is_followed_and_one_to_what_is_not_here_is_not(
    pair: tuple[Doors, Doors],
) -> None:
    one, other = pair
    serving = Serving(one, connect=lambda _: other.triton)
    following = asyncio.create_task(serving.follow())
    one.catalogue.versions.switch(other.bundle.id)
    async with asyncio.timeout(T):
        while serving.doors.bundle.id != other.bundle.id:  # noqa: ASYNC110 (no event tells it)
            await asyncio.sleep(0.01)
    assert serving.doors.milvus is one.milvus
    following.cancel()
    one.catalogue.versions.switch("test-999999")
    with pytest.raises(NotFound, match="test-999999"):
        await serving.look()
    assert serving.doors.bundle.id == other.bundle.id


@pytest.mark.anyio
async def test_a_patch_reaches_the_versions_beside_the_current_one(
    pair: tuple[Doors, Doors],
) -> None:
    one, other = pair
    one.catalogue.versions.keep(other.bundle.id)
    one.catalogue.library.patch("video-1", VideoPatch(category="craft"))
    await copy_metadata(one, "video-1")
    for doors in pair:
        ids = []
        for category in ("music", "craft"):
            found = await doors.milvus.search_vector(
                doors.bundle,
                "speech",
                (await doors.triton.embed_text(["chord"], "query", timeout_s=T))[0],
                k=10,
                expression=f'category == "{category}"',
                timeout_s=T,
            )
            ids.append({candidate.video_id for candidate in found})
        assert ids == [{"video-0", "video-2"}, {"video-1"}]


def test_a_switch_remembers_the_way_back(catalogue: Catalogue) -> None:
    versions = catalogue.versions
    assert (versions.current(), versions.previous(), versions.kept()) == (None, None, ())
    assert versions.switch("mini-1") is None
    assert (versions.previous(), versions.kept()) == (None, ())
    versions.keep("mini-2")
    assert versions.kept() == ("mini-2",)
    assert versions.switch("mini-2") == "mini-1"
    assert (versions.current(), versions.previous()) == ("mini-2", "mini-1")
    assert versions.kept() == ("mini-1",)
    assert versions.switch("mini-2") is None
    assert versions.previous() == "mini-1"
    assert versions.switch("mini-1") == "mini-2"
    assert (versions.current(), versions.previous()) == ("mini-1", "mini-2")


def test_what_searches_use_is_not_forgotten(catalogue: Catalogue) -> None:
    versions = catalogue.versions
    versions.switch("mini-1")
    versions.switch("mini-2")
    with pytest.raises(Conflict, match="mini-2 is what searches use"):
        versions.forget("mini-2")
    versions.forget("mini-1")
    assert (versions.current(), versions.previous(), versions.kept()) == ("mini-2", None, ())


@pytest.mark.anyio
async def test_a_bundle_that_is_not_there_is_told_with_those_that_are(
    pair: tuple[Doors, Doors],
) -> None:
    settings = pair[0].settings
    assert bundle_named(settings, pair[1].bundle.id) == pair[1].bundle
    with pytest.raises(NotFound, match=pair[0].bundle.id):
        bundle_named(settings, "../../etc/passwd")


@pytest.mark.anyio
async def test_two_versions_that_find_the_same_are_told_so(pair: tuple[Doors, Doors]) -> None:
    one, other = pair
    asked = questions(one.catalogue, 10)
    assert {(q.words, q.video_id) for q in asked} == {
        (text, f"video-{number}") for number, text in enumerate(TEXTS)
    }
    told: list[None] = []
    found = await compare(one, other, asked, lambda: told.append(None))
    assert found.versions == (one.bundle.id, other.bundle.id)
    assert (found.queries, len(told)) == (3, 3)
    (speech,) = found.legs
    assert (speech.leg, speech.rows, speech.recall, speech.overlap) == (
        "speech",
        (3, 3),
        (1.0, 1.0),
        1.0,
    )
    assert found.right_video == (1.0, 1.0)
    assert found.overlap == 1.0


@pytest.mark.anyio
async def test_a_version_that_misses_a_video_is_seen(pair: tuple[Doors, Doors]) -> None:
    one, other = pair
    await other.milvus.delete_video(other.bundle, "video-0", timeout_s=T)
    found = await compare(one, other, questions(one.catalogue, 10), lambda: None)
    assert found.legs[0].rows == (3, 2)
    assert found.right_video == (1.0, pytest.approx(2 / 3))
    assert found.overlap < 1


def test_without_transcripts_there_is_nothing_to_ask(catalogue: Catalogue) -> None:
    with pytest.raises(InvalidRequest, match="no video has a transcript"):
        questions(catalogue, 10)
