"""Many files taken in by one process: the driver, the work on one file, and its engines."""

import asyncio
import pickle
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.doors import Doors
from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MediaLimitExceeded,
    MediaRefused,
    ModelFailed,
    Overloaded,
    PixserveError,
    StorageFull,
    Unavailable,
)
from gateway.schemas import VideoMetadata
from ingest import bulk as module
from ingest.bulk import Taken, bulk_ingest
from ingest.bulk_work import Failure, Outcome, Work, analysed, analysis_of
from ingest.ends import NOTES, run_folder, was_killed_from_outside
from ingest.engines import Processes
from ingest.manifest import read_items
from ingest.owners import owner_name
from ingest.pipeline import AnalysisRequest, analyse
from tests.gateways import BUNDLE, NOWHERE
from tests.ingests import counts, embedder, opened_doors
from tests.media import make_text_file, make_video

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str) -> AsyncIterator[Doors]:
    async with opened_doors(tmp_path / "data", milvus_uri) as doors:
        yield doors


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos, one of them twice, and a file that is none."""
    folder = tmp_path_factory.mktemp("library")
    for number, seconds in enumerate((3, 4, 5)):
        make_video(folder / f"{number}.mp4", duration_s=seconds)
    (folder / "twin.mp4").write_bytes((folder / "0.mp4").read_bytes())
    make_text_file(folder / "text.mp4")
    return folder


class Here:
    """An engine that does the work in this process, with the stand-in for Triton."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self.works: list[Work] = []
        self.running = self.most = 0
        self.lanes = 3

    async def analysed(self, work: Work) -> Outcome:
        self.works.append(pickle.loads(pickle.dumps(work)))
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            triton = self._doors.triton
            found = await analyse(work.path, work.request, work.settings, triton, lambda *_: None)
        finally:
            self.running -= 1
        return pickle.loads(pickle.dumps(Outcome(found, None)))

    def close(self) -> None:
        return


async def taken_in(doors: Doors, engine: Here, *paths: Path) -> list[Taken]:
    done: list[Taken] = []
    items = read_items(paths, VideoMetadata(creator_id="bulk"))
    await bulk_ingest(doors, items, engine, done.append)
    return sorted(done, key=lambda taken: taken.path.name)


async def test_a_library_is_searchable_and_each_file_is_told_of(doors: Doors, folder: Path) -> None:
    engine = Here(doors)
    told = await taken_in(doors, engine, folder)

    states = {taken.path.name: taken.state for taken in told}
    assert sorted((states["0.mp4"], states["twin.mp4"])) == ["existing", "ready"]
    assert (states["1.mp4"], states["2.mp4"], states["text.mp4"]) == ("ready", "ready", "failed")
    assert next(t for t in told if t.path.name == "text.mp4").error.startswith("not_media: ")
    assert len(engine.works) == 3
    for taken in told:
        if taken.video_id:
            video = doors.catalogue.library.video(taken.video_id)
            assert video.state == "ready"
            assert (await counts(doors, taken.video_id))["visual"] == video.segments
    assert doors.catalogue.jobs.counts() == {("ingest", "succeeded"): 3}
    assert list(doors.settings.uploads_dir.iterdir()) == []


async def test_done_again_nothing_is_analysed(doors: Doors, folder: Path) -> None:
    await taken_in(doors, Here(doors), folder)
    engine = Here(doors)
    told = await taken_in(doors, engine, folder)
    assert engine.works == []
    assert {taken.state for taken in told} == {"existing", "failed"}


async def test_bulk_and_upload_give_the_same_rows(doors: Doors, folder: Path) -> None:
    """The worker's own way is the reference: same ids, same rows."""
    (told,) = await taken_in(doors, Here(doors), folder / "1.mp4")
    bulk = doors.catalogue.analyses.segment_ids(told.video_id), await counts(doors, told.video_id)
    from ingest.jobs import run
    from tests.ingests import claim

    doors.catalogue.jobs.add(told.video_id, "ingest")
    await run(doors, claim(doors))
    assert bulk == (
        doors.catalogue.analyses.segment_ids(told.video_id),
        await counts(doors, told.video_id),
    )


async def test_a_kill_of_the_bulk_process_would_cost_its_jobs_no_try(
    doors: Doors, folder: Path
) -> None:
    class Witness(Here):
        async def analysed(self, work: Work) -> Outcome:
            held.append(was_killed_from_outside(run_folder(doors.settings), owner_name("bulk")))
            return await super().analysed(work)

    held: list[bool] = []
    await taken_in(doors, Witness(doors), folder / "0.mp4")
    assert held == [True]
    assert list((run_folder(doors.settings) / NOTES).iterdir()) == []


async def test_no_more_work_is_begun_than_there_are_lanes(doors: Doors, folder: Path) -> None:
    engine = Here(doors)
    engine.lanes = 1
    await taken_in(doors, engine, folder)
    assert engine.most == 1


async def test_a_file_whose_job_another_worker_has_is_waited_for(
    doors: Doors, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_S", 0.01)
    claim_job = doors.catalogue.jobs.claim_job
    others: list[str] = []

    def late(job_id: str, worker: str, *, lease_s: float) -> object:
        if not others:
            other = claim_job(job_id, "other", lease_s=60)
            assert other is not None
            others.append(job_id)
            doors.catalogue.jobs.put_back(other, stage="x", counted=False, delay=False)
            return None
        return claim_job(job_id, worker, lease_s=lease_s)

    monkeypatch.setattr(doors.catalogue.jobs, "claim_job", late)
    (told,) = await taken_in(doors, Here(doors), folder / "1.mp4")
    assert told.state == "ready"


async def test_a_part_that_is_lost_is_tried_again(
    doors: Doors, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "REST_S", 0.01)
    lost = iter([Unavailable("triton", "gone"), None, None, None])

    def fail_once() -> None:
        if error := next(lost):
            raise error

    embedder(doors).before = fail_once
    (told,) = await taken_in(doors, Here(doors), folder / "1.mp4")
    assert told.state == "ready"
    job = doors.catalogue.control.page(state=None, video_id=told.video_id, limit=1)[0]
    assert job.attempts == 2


async def test_a_wrong_row_ends_the_bulk_after_what_was_begun(doors: Doors, folder: Path) -> None:
    manifest = folder / "library.jsonl"
    manifest.write_text('{"path": "1.mp4"}\n{"path": "nothing.mp4"}\n')
    with pytest.raises(InvalidRequest, match="line 2"):
        await taken_in(doors, Here(doors), manifest)
    (job,) = doors.catalogue.control.page(state=None, video_id=None, limit=9)
    assert job.state == "succeeded"


# ---- the work on one file


def work_on(doors: Doors, path: Path) -> Work:
    settings = msgspec.structs.replace(doors.settings, triton=NOWHERE)
    return Work(path, AnalysisRequest(video_id="v", pix=0, bundle=BUNDLE), settings)


@pytest.mark.parametrize(
    "error",
    [
        MediaRefused("not_media", "no media"),
        MediaLimitExceeded("cpu_time", "too much"),
        Unavailable("triton", "gone"),
        DeadlineExceeded("triton", "late"),
        ModelFailed("triton", "NaN"),
        Overloaded("full"),
        InvalidRequest("wrong"),
        StorageFull("full"),
    ],
)
async def test_errors_come_back_as_they_were_raised(error: PixserveError) -> None:
    part, reason = getattr(error, "part", ""), getattr(error, "reason", "")
    outcome = Outcome(None, Failure(type(error).__name__, error.message, reason, part))
    expected = PixserveError if isinstance(error, StorageFull) else type(error)
    with pytest.raises(expected) as raised:
        analysis_of(pickle.loads(pickle.dumps(outcome)))
    assert type(raised.value) is expected
    assert raised.value.message == error.message
    assert getattr(raised.value, "reason", "") == reason
    assert getattr(raised.value, "part", "") == part


async def test_a_process_says_what_stopped_the_work(doors: Doors, folder: Path) -> None:
    engine = Processes(1)
    try:
        refused, unreached = await asyncio.gather(
            engine.analysed(work_on(doors, folder / "text.mp4")),
            engine.analysed(work_on(doors, folder / "0.mp4")),
        )
    finally:
        engine.close()
    assert refused.failure is not None
    assert (refused.failure.kind, refused.failure.reason) == ("MediaRefused", "not_media")
    assert unreached.failure is not None
    assert (unreached.failure.kind, unreached.failure.part) == ("Unavailable", "triton")


async def test_processes_that_die_are_replaced(doors: Doors, folder: Path) -> None:
    engine = Processes(1)
    try:
        await engine.analysed(work_on(doors, folder / "text.mp4"))
        processes = list(engine._pool._processes.values())
        for process in processes:
            process.kill()
            await asyncio.to_thread(process.join)
        with pytest.raises(Unavailable, match="died under"):
            await engine.analysed(work_on(doors, folder / "text.mp4"))
        again = await engine.analysed(work_on(doors, folder / "text.mp4"))
    finally:
        engine.close()
    assert again.failure is not None


async def test_the_work_needs_no_more_than_a_file_and_settings(doors: Doors, folder: Path) -> None:
    work = work_on(doors, folder / "text.mp4")
    first = await asyncio.to_thread(analysed, work)
    assert first == await asyncio.to_thread(analysed, replace(work))
