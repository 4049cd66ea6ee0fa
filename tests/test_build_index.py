"""Another version's index built beside the current one, by the code of `pixserve index build`."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import msgspec
import numpy as np
import pytest

from ensembles.bundle import Bundle, bundle_folder
from gateway.catalogue.claims import ClaimedJob
from gateway.doors import Doors
from gateway.errors import Conflict, Unavailable
from gateway.schemas import VideoPatch
from gateway.triton import Triton
from ingest.build_index import Built, build, drop, unbuilt
from ingest.catch_up import catch_up
from ingest.jobs import run
from ingest.tokens import ARRAYS, TOKENS_FILE, kept_tokens_path, read_tokens
from tests.gateways import BUNDLE
from tests.ingests import Embedder, add, claim, counts, embedder, opened_doors

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]

NEXT = msgspec.structs.replace(BUNDLE, version=2)
T = 10.0


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str, video: Path) -> AsyncIterator[Doors]:
    """The current version, with one video; neither index holds anything else."""
    async with opened_doors(tmp_path, milvus_uri) as opened:
        for bundle in (BUNDLE, NEXT):
            await opened.milvus.inventory.drop(bundle, timeout_s=T)
        await opened.milvus.ensure_collections(BUNDLE, timeout_s=T)
        export(opened, NEXT)
        await ingested(opened, "first", video)
        yield opened


@pytest.fixture
def target(doors: Doors) -> Doors:
    return replace(doors, bundle=NEXT, triton=cast(Triton, Embedder(NEXT)))


def export(doors: Doors, bundle: Bundle, encoder: bytes = b"an encoder") -> None:
    folder = bundle_folder(doors.settings.models_dir, bundle.profile, bundle.version)
    (folder / "sentence").mkdir(parents=True, exist_ok=True)
    (folder / "sentence" / "model.onnx").write_bytes(encoder)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(bundle))


async def ingested(doors: Doors, video_id: str, source: Path) -> ClaimedJob:
    add(doors, video_id, source, title="Bread")
    job = claim(doors)
    await run(doors, job)
    return job


async def built(target: Doors, *sources: Bundle) -> Built:
    return await build(target, sources, 2, lambda: None)


async def rows(doors: Doors, video_id: str = "first") -> list[int]:
    legs = await doors.milvus.legs(timeout_s=T)
    return [await doors.milvus.count(doors.bundle, leg, video_id, timeout_s=T) for leg in legs]


async def test_with_other_encoders_videos_are_decoded_and_the_current_rows_stay(
    doors: Doors, target: Doors
) -> None:
    before = await counts(doors, "first")
    assert await unbuilt(target) == ("first",)
    assert await built(target, BUNDLE) == Built(1, {})
    assert await rows(target) == await rows(doors) == list(before.values())
    assert embedder(target).calls > 0
    folder = doors.settings.videos_dir / "first"
    assert read_tokens(kept_tokens_path(folder, NEXT.id), NEXT).frames.size
    assert read_tokens(folder / TOKENS_FILE, BUNDLE).frames.size
    assert doors.catalogue.versions.current() == BUNDLE.id
    assert doors.catalogue.library.video("first").model_version == BUNDLE.id


async def test_with_the_same_encoders_nothing_is_decoded(doors: Doors, target: Doors) -> None:
    export(doors, BUNDLE)
    assert await built(target, BUNDLE) == Built(1, {})
    assert embedder(target).calls == 0
    assert embedder(target).fused > 0
    assert await rows(target) == await rows(doors)


async def test_what_is_built_is_not_built_again_and_what_came_meanwhile_is(
    doors: Doors, target: Doors, video: Path
) -> None:
    await built(target)
    await ingested(doors, "second", video)
    calls = embedder(target).calls
    assert await built(target) == Built(1, {})
    assert await rows(target, "second") == await rows(doors, "second")
    assert embedder(target).calls > calls
    assert await built(target) == Built(0, {})


async def test_a_video_whose_file_is_gone_is_told_and_the_others_are_built(
    doors: Doors, target: Doors, video: Path
) -> None:
    await ingested(doors, "second", video)
    (doors.settings.videos_dir / "first" / "source.mp4").unlink()
    result = await built(target)
    assert result.built == 1
    assert list(result.failed) == ["first"]
    assert "upload it again" in result.failed["first"]


def other_settings(target: Doors) -> Doors:
    """A version whose own analysis would cut the video into other segments."""
    settings = msgspec.structs.replace(target.settings, segment_s=60.0, max_frames=1)
    return replace(target, settings=settings)


async def test_a_video_that_would_be_cut_otherwise_now_is_embedded_where_it_was(
    doors: Doors, target: Doors
) -> None:
    assert await built(other_settings(target), BUNDLE) == Built(1, {})
    folder = doors.settings.videos_dir / "first"
    before = read_tokens(folder / TOKENS_FILE, BUNDLE)
    after = read_tokens(kept_tokens_path(folder, NEXT.id), NEXT)
    assert len(before.segment_starts_s) > 1
    for name in set(ARRAYS) - {"frames", "audio", "text"}:
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-6)
    assert await rows(target) == await rows(doors)
    leg = "visual"
    found = [
        await one.milvus.inventory.segment_ids(one.bundle, leg, "first", timeout_s=T)
        for one in (doors, target)
    ]
    assert found[0] == found[1] != set()


async def test_without_tokens_a_video_with_other_segments_now_is_told(
    doors: Doors, target: Doors
) -> None:
    (doors.settings.videos_dir / "first" / TOKENS_FILE).unlink()
    result = await built(other_settings(target), BUNDLE)
    assert (result.built, list(result.failed)) == (0, ["first"])
    assert "finds other segments" in result.failed["first"]
    assert await rows(target) == [0, 0, 0, 0, 0]


async def test_what_is_changed_while_a_video_is_built_is_in_its_rows(
    doors: Doors, target: Doors
) -> None:
    def change() -> None:
        doors.catalogue.library.patch("first", VideoPatch(title="Volcano", category="nature"))

    embedder(target).before = change
    assert (await built(target)).built == 1
    found = await target.milvus.search_keyword(
        NEXT, "volcano", k=10, expression='category == "nature"', timeout_s=T
    )
    assert {candidate.video_id for candidate in found} == {"first"}


async def test_a_video_that_is_deleted_while_it_is_built_leaves_nothing(
    doors: Doors, target: Doors
) -> None:
    embedder(target).before = lambda: (doors.catalogue.library.begin_delete("first"), None)[1]
    assert await built(target) == Built(0, {})
    assert await rows(target) == [0, 0, 0, 0, 0]


async def test_a_bundle_that_triton_does_not_serve_is_not_built(target: Doors) -> None:
    embedder(target).is_ready = False
    with pytest.raises(Unavailable, match="restart the stack"):
        await built(target)


async def test_a_dropped_version_leaves_neither_rows_nor_tokens(
    doors: Doors, target: Doors
) -> None:
    await built(target)
    doors.catalogue.versions.switch(NEXT.id)
    with pytest.raises(Conflict, match="switch to another"):
        await drop(doors, NEXT)
    doors.catalogue.versions.switch(BUNDLE.id)
    await drop(doors, NEXT)
    names = await doors.milvus.inventory.collections(timeout_s=T)
    assert not [name for name in names if name.endswith("gateway_2")]
    assert [p.name for p in (doors.settings.videos_dir / "first").glob("tokens*")] == [TOKENS_FILE]
    assert doors.catalogue.versions.previous() is None


async def test_a_job_that_ends_after_a_switch_is_done_again_for_the_new_version(
    doors: Doors, target: Doors, video: Path
) -> None:
    job = await ingested(doors, "second", video)
    await catch_up(doors, job)
    assert not doors.catalogue.jobs.is_due()
    doors.catalogue.versions.switch(NEXT.id)
    await catch_up(doors, job)
    due = claim(doors)
    assert (due.video_id, due.kind) == ("second", "reindex")
    await run(target, due)
    assert await rows(target, "second") == await rows(doors, "second")
    assert doors.catalogue.library.video("second").model_version == NEXT.id
