import asyncio
import errno
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from gateway.catalogue.claims import ClaimedJob
from gateway.doors import Doors
from gateway.errors import ConfigurationError, ModelFailed, Unavailable
from gateway.index.milvus import Milvus
from gateway.index.rows import LEGS, VECTOR_LEGS
from gateway.schemas import InvestmentRequest, VideoPatch
from ingest.depth import deeper
from ingest.jobs import MAX_KILLS, run
from ingest.tasks import repair_copies
from ingest.tokens import TOKENS_FILE, Tokens, read_tokens
from tests.corpora import index_row
from tests.gateways import BUNDLE, NOWHERE
from tests.ingests import add, claim, counts, due, embedder, failing_with, opened_doors
from tests.media import make_sound, make_text_file

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str) -> AsyncIterator[Doors]:
    async with opened_doors(tmp_path, milvus_uri) as doors:
        yield doors


async def keyword_hits(doors: Doors, words: str) -> set[str]:
    found = await doors.milvus.search_keyword(BUNDLE, words, k=50, expression="", timeout_s=10)
    return {candidate.video_id for candidate in found}


async def test_an_ingest_makes_a_video_searchable(doors: Doors, video: Path) -> None:
    job_id = add(doors, "made", video, title="Bread", pix=5)

    await run(doors, claim(doors))

    told = doors.catalogue.library.video("made")
    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.percent, job.error) == ("succeeded", 100, None)
    assert (told.state, told.model_version) == ("ready", BUNDLE.id)
    assert told.segments >= 2
    assert {told.visual.state, told.audio.state, told.transcript.state} == {"ready"}
    rows = await counts(doors, "made")
    assert rows["visual"] == rows["sound"] == rows["fused"] == told.segments
    assert rows["speech"] >= 1
    assert "made" in await keyword_hits(doors, "sourdough")
    assert (doors.settings.videos_dir / "made" / "tokens.npz").is_file()
    assert doors.catalogue.pix_of(["made"]) == {"made": 5}


async def test_an_ingest_done_again_gives_the_same_rows(doors: Doors, video: Path) -> None:
    add(doors, "twice", video)
    await run(doors, claim(doors))
    first = doors.catalogue.analyses.segment_ids("twice"), await counts(doors, "twice")

    with doors.catalogue._database.write() as connection:  # a crash just before the job's end
        connection.exec_driver_sql(
            "update jobs set state = 'running', worker = 'dead', lease_until_s = 0, attempts = 1"
        )
        connection.exec_driver_sql("update videos set state = 'processing'")
    job = claim(doors)
    assert job.attempts == 2
    await run(doors, job)

    assert first == (doors.catalogue.analyses.segment_ids("twice"), await counts(doors, "twice"))
    assert doors.catalogue.library.video("twice").state == "ready"


async def test_sound_alone_is_indexed_by_sound_and_words(doors: Doors, tmp_path: Path) -> None:
    add(doors, "sound", make_sound(tmp_path / "a.m4a"))
    await run(doors, claim(doors))

    told = doors.catalogue.library.video("sound")
    assert (told.visual.state, told.audio.state, told.transcript.state) == (
        "absent",
        "ready",
        "ready",
    )
    rows = await counts(doors, "sound")
    assert rows["visual"] == 0
    assert rows["sound"] > 0


async def test_a_file_that_cannot_be_decoded_leaves_nothing_but_the_reason(
    doors: Doors, video: Path, tmp_path: Path
) -> None:
    job_id = add(doors, "refused", video)
    folder = doors.settings.videos_dir / "refused"
    shutil.copy(make_text_file(tmp_path / "text.mp4"), folder / "source.mp4")

    await run(doors, claim(doors))

    job, told = doors.catalogue.jobs.job(job_id), doors.catalogue.library.video("refused")
    assert (job.state, told.state) == ("failed", "failed")
    assert job.error == told.error
    assert (told.error or "").startswith("not_media: ")
    assert told.visual.state == "failed"
    assert not folder.exists()
    assert set((await counts(doors, "refused")).values()) == {0}


async def test_without_triton_a_job_waits_and_no_try_is_counted(doors: Doors, video: Path) -> None:
    job_id = add(doors, "waits", video)
    embedder(doors).is_ready = False

    await run(doors, claim(doors))

    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.attempts) == ("queued", 0)
    assert job.stage == "waiting: triton does not answer"
    assert embedder(doors).calls == 0


async def test_without_milvus_a_job_waits(doors: Doors, video: Path) -> None:
    job_id = add(doors, "waits", video)
    lost = replace(doors, milvus=Milvus(f"http://{NOWHERE}"))

    await run(lost, claim(doors))
    await lost.milvus.close()

    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.attempts) == ("queued", 0)
    assert job.stage.startswith("waiting: ")


async def test_a_model_that_fails_on_a_video_is_not_waited_for(doors: Doors, video: Path) -> None:
    job_id = add(doors, "fails", video)
    failing_with(doors, ModelFailed("triton", "a model failed on this input: NaN"))
    for attempt in range(1, doors.settings.job_attempts):
        await run(doors, claim(doors))
        job = doors.catalogue.jobs.job(job_id)
        assert (job.state, job.attempts) == ("queued", attempt)
        due(doors)
    await run(doors, claim(doors))

    told = doors.catalogue.library.video("fails")
    assert (doors.catalogue.jobs.job(job_id).state, told.state) == ("failed", "failed")
    assert told.error == "a model failed on this input: NaN"


async def test_a_triton_that_dies_under_a_job_is_waited_for_and_the_job_resumed(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "resumed", video)
    failing_with(doors, Unavailable("triton", "127.0.0.1:8001 refused the connection"))
    await run(doors, claim(doors))
    assert doors.catalogue.jobs.job(job_id).stage == "waiting: triton does not answer"
    assert doors.catalogue.library.video("resumed").state == "processing"

    embedder(doors).before = lambda: None
    due(doors)
    await run(doors, claim(doors))
    assert doors.catalogue.library.video("resumed").state == "ready"


async def test_a_bug_is_tried_again_but_not_for_ever(doors: Doors, video: Path) -> None:
    job_id = add(doors, "buggy", video)
    failing_with(doors, RuntimeError("secret detail"))
    settings = msgspec.structs.replace(doors.settings, job_attempts=2)
    doors = replace(doors, settings=settings)
    await run(doors, claim(doors))
    assert doors.catalogue.jobs.job(job_id).state == "queued"
    due(doors)
    await run(doors, claim(doors))

    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.attempts) == ("failed", 2)
    assert "secret" not in (job.error or "")
    assert doors.catalogue.library.video("buggy").state == "failed"


async def test_a_job_that_kills_its_workers_fails_and_leaves_nothing(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "deadly", video)
    doors = replace(doors, settings=msgspec.structs.replace(doors.settings, job_attempts=2))
    for _ in range(2):
        claim(doors, lease_s=-1)

    await run(doors, claim(doors))

    job, told = doors.catalogue.jobs.job(job_id), doors.catalogue.library.video("deadly")
    assert (job.state, told.state) == ("failed", "failed")
    assert "2 times" in (job.error or "")
    assert not (doors.settings.videos_dir / "deadly").exists()
    assert embedder(doors).calls == 0


async def test_a_job_whose_workers_are_killed_from_outside_is_done_all_the_same(
    doors: Doors, video: Path
) -> None:
    add(doors, "innocent", video)
    for _ in range(doors.settings.job_attempts + 1):
        claim(doors)
        doors.catalogue.control.free_dead(lambda _: True, lambda _: True)

    await run(doors, claim(doors))
    assert doors.catalogue.library.video("innocent").state == "ready"


async def test_a_job_whose_workers_are_killed_without_an_end_fails(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "unlucky", video)
    for _ in range(MAX_KILLS + 1):
        claim(doors)
        doors.catalogue.control.free_dead(lambda _: True, lambda _: True)

    await run(doors, claim(doors))
    assert doors.catalogue.jobs.job(job_id).error == "its worker was killed 101 times"
    assert embedder(doors).calls == 0


async def test_a_refused_file_is_gone_before_its_video_can_be_uploaded_anew(
    doors: Doors, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(doors, "refused", video)
    folder = doors.settings.videos_dir / "refused"
    shutil.copy(make_text_file(tmp_path / "text.mp4"), folder / "source.mp4")
    fail = doors.catalogue.jobs.fail
    there: list[bool] = []

    def watched(job: ClaimedJob, error: str) -> bool:
        there.append(folder.exists())
        return fail(job, error)

    monkeypatch.setattr(doors.catalogue.jobs, "fail", watched)
    await run(doors, claim(doors))
    assert there == [False]


async def test_a_job_that_is_not_ours_any_more_refuses_nothing(
    doors: Doors, video: Path, tmp_path: Path
) -> None:
    job_id = add(doors, "stolen", video)
    folder = doors.settings.videos_dir / "stolen"
    shutil.copy(make_text_file(tmp_path / "text.mp4"), folder / "source.mp4")
    slow = claim(doors, lease_s=-1)
    doors.catalogue.jobs.claim("another", lease_s=60)

    await run(doors, slow)

    assert doors.catalogue.jobs.job(job_id).state == "running"
    assert folder.exists()


async def test_a_refusal_that_meets_a_deletion_lets_it_go_on_at_once(
    doors: Doors, video: Path, tmp_path: Path
) -> None:
    job_id = add(doors, "gone", video)
    folder = doors.settings.videos_dir / "gone"
    shutil.copy(make_text_file(tmp_path / "text.mp4"), folder / "source.mp4")
    job = claim(doors)
    doors.catalogue.library.begin_delete("gone")

    await run(doors, job)

    assert doors.catalogue.jobs.job(job_id).state == "cancelled"
    assert claim(doors).kind == "delete"


async def test_a_full_disk_is_waited_for_and_costs_no_video(
    doors: Doors, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = add(doors, "full", video)

    def no_room(_tokens: Tokens, _path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(Tokens, "write", no_room)
        await run(doors, claim(doors))

    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.attempts) == ("queued", 0)
    assert job.stage.startswith("waiting: the disk is full")
    due(doors)
    await run(doors, claim(doors))
    assert doors.catalogue.library.video("full").state == "ready"


async def test_a_broken_installation_is_not_described_to_clients(doors: Doors, video: Path) -> None:
    job_id = add(doors, "told", video)
    failing_with(doors, ConfigurationError("/srv/secret/python is missing"))
    doors = replace(doors, settings=msgspec.structs.replace(doors.settings, job_attempts=1))
    await run(doors, claim(doors))
    assert doors.catalogue.jobs.job(job_id).error == "internal error; the worker's log says more"


async def test_a_change_of_metadata_that_meets_a_deletion_leaves_no_rows(
    doors: Doors, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(doors, "met", video, title="old")
    await run(doors, claim(doors))
    doors.catalogue.library.patch("met", VideoPatch(title="new"))

    async def deleted_meanwhile(*_given: object, timeout_s: float) -> None:
        doors.catalogue.library.begin_delete("met")
        await run(doors, claim(doors))
        await doors.milvus.write(BUNDLE, [index_row("met", title="new")], timeout_s=timeout_s)

    monkeypatch.setattr(doors.milvus, "update_video", deleted_meanwhile)
    await repair_copies(doors, 10)
    assert set((await counts(doors, "met")).values()) == {0}


async def test_a_worker_that_is_stopped_gives_its_job_back_at_once(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "stopped", video)
    begun = asyncio.Event()
    embedder(doors).before = begun.set
    task = asyncio.create_task(run(doors, claim(doors)))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    job = doors.catalogue.jobs.job(job_id)
    assert (job.state, job.stage, job.attempts) == ("queued", "interrupted", 0)
    await run(doors, claim(doors))
    assert doors.catalogue.library.video("stopped").state == "ready"


async def test_a_deletion_stops_the_analysis_and_removes_all_of_it(
    doors: Doors, video: Path
) -> None:
    job_id = add(doors, "deleted", video)
    embedder(doors).before = lambda: doors.catalogue.library.begin_delete("deleted") and None

    await run(doors, claim(doors))
    assert doors.catalogue.jobs.job(job_id).state == "cancelled"

    job = claim(doors)
    assert job.kind == "delete"
    await run(doors, job)
    assert doors.catalogue.jobs.job(job.id).state == "succeeded"
    assert doors.catalogue.library.known(["deleted"]) == set()
    assert not (doors.settings.videos_dir / "deleted").exists()
    assert set((await counts(doors, "deleted")).values()) == {0}


async def test_a_deletion_waits_for_milvus_and_loses_nothing(doors: Doors, video: Path) -> None:
    add(doors, "kept", video)
    await run(doors, claim(doors))
    doors.catalogue.library.begin_delete("kept")
    lost = replace(doors, milvus=Milvus(f"http://{NOWHERE}"))

    await run(lost, claim(doors))
    await lost.milvus.close()

    assert doors.catalogue.library.video("kept").state == "deleting"
    due(doors)
    await run(doors, claim(doors))
    assert doors.catalogue.library.known(["kept"]) == set()


async def test_more_pix_looks_deeper_and_keeps_every_segment(doors: Doors, video: Path) -> None:
    add(doors, "deep", video)
    await run(doors, claim(doors))
    before = doors.catalogue.analyses.segment_ids("deep")
    buys = deeper(doors.settings)

    nothing = doors.catalogue.ledger.invest("deep", InvestmentRequest(pix=1, key="a"), buys)
    assert nothing.job_id is None
    request = InvestmentRequest(pix=200, key="b")
    job_id = doors.catalogue.ledger.invest("deep", request, buys).job_id
    job = claim(doors)
    assert (job.id, job.kind) == (job_id, "deepen")
    assert doors.catalogue.pix_of(["deep"]) == {"deep": 201}  # searchable all the while
    looked = embedder(doors).frames
    await run(doors, job)

    after = doors.catalogue.analyses.segment_ids("deep")
    assert before <= after
    assert doors.catalogue.analyses.record("deep").analysed_pix == 201
    assert (await counts(doors, "deep"))["visual"] == len(after)
    assert doors.catalogue.ledger.deepen("deep", buys) is None
    tokens = read_tokens(doors.settings.videos_dir / "deep" / TOKENS_FILE, BUNDLE)
    assert looked < embedder(doors).frames == len(tokens.frames)  # none of them twice


async def test_pix_that_comes_while_a_job_runs_is_looked_at_after_it(
    doors: Doors, video: Path
) -> None:
    add(doors, "late", video)
    request = InvestmentRequest(pix=100, key="late")
    embedder(doors).before = lambda: (
        doors.catalogue.ledger.invest("late", request, deeper(doors.settings)) and None
    )
    await run(doors, claim(doors))

    job = claim(doors)
    assert (job.kind, job.video_id) == ("deepen", "late")


async def test_metadata_that_changes_under_a_job_reaches_the_index(
    doors: Doors, video: Path
) -> None:
    add(doors, "renamed", video, title="before")
    change = VideoPatch(title="zeppelin")
    embedder(doors).before = lambda: doors.catalogue.library.patch("renamed", change) and None
    await run(doors, claim(doors))
    assert "renamed" not in await keyword_hits(doors, "zeppelin")

    await repair_copies(doors, 10)

    assert "renamed" in await keyword_hits(doors, "zeppelin")
    assert doors.catalogue.analyses.outdated(10) == ()


async def test_a_file_that_is_gone_fails_with_what_to_do(doors: Doors, video: Path) -> None:
    job_id = add(doors, "gone", video)
    (doors.settings.videos_dir / "gone" / "source.mp4").unlink()
    await run(doors, claim(doors))
    assert "upload it again" in (doors.catalogue.jobs.job(job_id).error or "")


def test_vector_legs_are_what_a_deletion_verifies() -> None:
    assert set(VECTOR_LEGS) < set(LEGS)
