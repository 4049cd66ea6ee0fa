"""How jobs end that do not simply succeed: cancelled, given up, or waiting for what was lost."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.doors import Doors
from gateway.errors import DeadlineExceeded, MediaRefused, Overloaded, Unavailable
from gateway.index.rows import IndexRow
from ingest.jobs import run
from ingest.tasks import remove_folder, write_index
from ingest.thumbnails import THUMBNAILS_FILE, read_head
from ingest.turns import Turns
from tests.conftest import make_bundle
from tests.corpora import index_row
from tests.gateways import BUNDLE, unit
from tests.ingests import add, claim, counts, due, embedder, failing_with, opened_doors

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str) -> AsyncIterator[Doors]:
    async with opened_doors(tmp_path, milvus_uri) as doors:
        yield replace(doors, settings=msgspec.structs.replace(doors.settings, job_attempts=3))


async def assert_nothing_left(doors: Doors, video_id: str) -> None:
    assert not (doors.settings.videos_dir / video_id).exists()
    assert set((await counts(doors, video_id)).values()) == {0}


# ---- parts that are lost under a job


@pytest.mark.parametrize(
    "error",
    [
        Unavailable("triton", "Triton cannot answer (UNAVAILABLE)"),
        DeadlineExceeded("triton", "Triton answered too late"),
        Unavailable("sandbox", "the decoding sandbox ended under a call"),
    ],
)
async def test_a_video_that_takes_a_part_down_each_time_is_given_up(
    doors: Doors, video: Path, error: Unavailable
) -> None:
    job_id = add(doors, "deadly", video)
    failing_with(doors, error)
    for attempt in (1, 2):
        await run(doors, claim(doors))
        job = doors.catalogue.jobs.job(job_id)
        told = f"waiting: {error.part} does not answer"
        assert (job.state, job.attempts, job.stage) == ("queued", attempt, told)
        due(doors)
    await run(doors, claim(doors))

    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.error) == ("failed", f"{error.part} did not survive this video, 3 times")
    assert doors.catalogue.library.video("deadly").error == job.error
    await assert_nothing_left(doors, "deadly")


async def test_a_full_queue_of_triton_is_waited_for_without_an_end(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "patient", video)
    failing_with(doors, Overloaded("Triton's queue is full"))
    for _ in range(5):
        await run(doors, claim(doors))
        due(doors)
    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.attempts) == ("queued", 0)


@pytest.mark.parametrize(
    ("reason", "tries"), [("decoder_failed", 3), ("wall_time", 3), ("cpu_time", 1)]
)
async def test_a_refusal_that_may_be_our_own_fault_is_tried_again(
    doors: Doors, video: Path, reason: str, tries: int
) -> None:
    job_id = add(doors, "doubtful", video)
    failing_with(doors, MediaRefused(reason, "the decoder failed on this file"))
    for attempt in range(1, tries + 1):
        await run(doors, claim(doors))
        expected = "failed" if attempt == tries else "queued"
        assert doors.catalogue.jobs.job(job_id).state == expected
        due(doors)
    assert doors.catalogue.library.video("doubtful").error == (
        f"{reason}: the decoder failed on this file"
    )


async def test_a_job_that_failed_once_runs_alone(doors: Doors, video: Path) -> None:
    add(doors, "suspect", video)
    failing_with(doors, Unavailable("triton", "gone"))
    await run(doors, claim(doors))
    embedder(doors).before = lambda: None
    due(doors)
    suspect = claim(doors)
    add(doors, "ordinary", video)
    turns, begun, go_on = Turns(2), asyncio.Event(), asyncio.Event()

    async def hold_a_place() -> None:
        async with turns.turn(alone=False):
            begun.set()
            await go_on.wait()

    holder = asyncio.create_task(hold_a_place())
    await begun.wait()
    running = asyncio.create_task(run(doors, suspect, turns))
    for _ in range(20):
        await asyncio.sleep(0.01)
    assert embedder(doors).calls == 1  # of the first try
    go_on.set()
    await asyncio.gather(holder, running)
    assert doors.catalogue.library.video("suspect").state == "ready"


# ---- cancelled


async def test_a_cancelled_ingest_that_waits_leaves_nothing(doors: Doors, video: Path) -> None:
    job_id = add(doors, "waiting", video)
    doors.catalogue.control.cancel(job_id)

    await run(doors, claim(doors))

    told = doors.catalogue.library.video("waiting")
    assert (doors.catalogue.jobs.job(job_id).state, told.state) == ("cancelled", "failed")
    assert (told.error or "").startswith("cancelled")
    assert embedder(doors).calls == 0
    await assert_nothing_left(doors, "waiting")


async def test_a_cancelled_ingest_that_runs_stops_and_leaves_nothing(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "running", video)
    embedder(doors).before = lambda: doors.catalogue.control.cancel(job_id) and None

    embedder(doors).hangs = True
    await run(doors, claim(doors))

    assert doors.catalogue.jobs.job(job_id).state == "cancelled"
    assert doors.catalogue.library.video("running").state == "failed"
    await assert_nothing_left(doors, "running")


async def test_a_cancelled_video_can_be_uploaded_anew(doors: Doors, video: Path) -> None:
    job_id = add(doors, "again", video)
    doors.catalogue.control.cancel(job_id)
    await run(doors, claim(doors))

    add(doors, "again", video)
    await run(doors, claim(doors))
    assert doors.catalogue.library.video("again").state == "ready"


async def test_cancelling_while_results_are_written_comes_too_late(
    doors: Doors, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = add(doors, "late", video)
    write = doors.milvus.write
    settings = msgspec.structs.replace(doors.settings, job_lease_s=0.6)
    doors = replace(doors, settings=settings)

    async def slowly(*given: object, timeout_s: float) -> None:
        doors.catalogue.control.cancel(job_id)
        await asyncio.sleep(1.5)  # the lease is looked after several times meanwhile
        await write(*given, timeout_s=timeout_s)  # type: ignore[arg-type]

    monkeypatch.setattr(doors.milvus, "write", slowly)
    await run(doors, claim(doors, lease_s=0.6))

    assert doors.catalogue.jobs.job(job_id).state == "succeeded"
    assert doors.catalogue.library.video("late").state == "ready"


async def test_cancelling_another_workers_job_leaves_it_alone(doors: Doors, video: Path) -> None:
    job_id = add(doors, "stolen", video)
    slow = claim(doors, lease_s=-1)
    doors.catalogue.jobs.claim("another", lease_s=60)

    await run(doors, msgspec.structs.replace(slow, cancelled=True))

    assert doors.catalogue.jobs.job(job_id).state == "running"
    assert (doors.settings.videos_dir / "stolen").exists()


# ---- what is written and removed


async def test_thumbnails_lie_beside_the_tokens_and_go_with_the_video(
    doors: Doors, video: Path
) -> None:
    add(doors, "pictured", video)
    await run(doors, claim(doors))
    folder = doors.settings.videos_dir / "pictured"
    head, _ = read_head(folder / THUMBNAILS_FILE)
    assert set(head.segments) == doors.catalogue.analyses.segment_ids("pictured")

    doors.catalogue.library.begin_delete("pictured")
    await run(doors, claim(doors))
    assert not folder.exists()


async def test_a_deletion_reaches_the_collections_of_older_bundles(
    doors: Doors, video: Path
) -> None:
    older = make_bundle()
    await doors.milvus.ensure_collections(older, timeout_s=10)
    add(doors, "twofold", video)
    await run(doors, claim(doors))
    await doors.milvus.write(older, [row("twofold", 0, older.dims.vision)], timeout_s=10)

    doors.catalogue.library.begin_delete("twofold")
    await run(doors, claim(doors))

    assert await doors.milvus.count(older, "visual", "twofold", timeout_s=10) == 0
    await assert_nothing_left(doors, "twofold")


async def test_a_deletion_that_leaves_rows_is_not_done(
    doors: Doors, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(doors, "sticky", video)
    await run(doors, claim(doors))
    job = doors.catalogue.library.begin_delete("sticky")

    async def rows_left(_video: str, *, timeout_s: float) -> dict[str, int]:  # noqa: ARG001
        return {"visual_gateway_1": 2}

    with monkeypatch.context() as patched:
        patched.setattr(doors.milvus.inventory, "erase_video", rows_left)
        await run(doors, claim(doors))
    assert doors.catalogue.jobs.job(job.id).state == "queued"
    assert doors.catalogue.library.video("sticky").state == "deleting"
    assert (doors.settings.videos_dir / "sticky").exists()

    due(doors)
    await run(doors, claim(doors))
    assert doors.catalogue.library.known(["sticky"]) == set()


async def test_a_video_is_never_without_rows_while_it_is_written_again(doors: Doors) -> None:
    first = [row("again", number, BUNDLE.dims.vision) for number in range(4)]
    await write_index(doors, "again", first, is_new=True)
    seen: list[int] = []
    delete = doors.milvus.inventory.delete_segments

    async def watched(*given: object, timeout_s: float) -> None:
        seen.append(await doors.milvus.count(BUNDLE, "visual", "again", timeout_s=10))
        await delete(*given, timeout_s=timeout_s)  # type: ignore[arg-type]

    doors.milvus.inventory.delete_segments = watched  # type: ignore[method-assign]
    await write_index(doors, "again", first[:2], is_new=False)

    assert min(seen) >= 2
    assert await doors.milvus.count(BUNDLE, "visual", "again", timeout_s=10) == 2


def test_what_is_gone_already_need_not_be_removed(tmp_path: Path) -> None:
    remove_folder(tmp_path / "nothing")


def row(video_id: str, number: int, width: int) -> IndexRow:
    return index_row(video_id, number, title="t", visual=unit(width))
