import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import ingest.transcripts.speech
from ensembles.arrays import FloatArray
from gateway.catalogue.claims import Lane
from gateway.doors import Doors
from gateway.errors import Unavailable
from gateway.schemas import InvestmentRequest, Modality, Video
from gateway.settings import settings_to_environment
from ingest.depth import deeper
from ingest.jobs import run
from ingest.transcripts.stretches import decode_stretch
from ingest.transcripts.words import Speech
from ingest.verify import verify
from tests.gateways import BUNDLE, gateway_settings
from tests.ingests import (
    add,
    claim,
    counts,
    due,
    embedder,
    failing_with,
    opened_doors,
    units,
)
from tests.whispers import processes, silence, spoken, voice

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]
START_S = 120
PENDING = Modality(percent=0, state="pending")
READY = Modality(percent=100, state="ready")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("talk")
    return spoken(folder / "talk.mp4", silence(1), voice(5), silence(2))


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str) -> AsyncIterator[Doors]:
    async with opened_doors(tmp_path, milvus_uri) as doors:
        yield doors


def hearing(doors: Doors, model: Path, **changes: object) -> Doors:
    settings = msgspec.structs.replace(doors.settings, whisper=str(model), **changes)
    return replace(doors, settings=settings)


async def done(doors: Doors, video_id: str, lane: Lane = "analyses") -> Video:
    """Do the next job; it succeeds, and the video is found by what it shows and how it sounds."""
    job = claim(doors, lane=lane)
    await run(doors, job)
    assert doors.catalogue.jobs.job(job.id).state == "succeeded"
    told = doors.catalogue.library.video(video_id)
    assert (told.state, told.visual.state, told.audio.state) == ("ready", "ready", "ready")
    return told


async def heard(doors: Doors, video_id: str) -> Video:
    """Do an analysis that leaves speech to be heard, the hearing, and what is done with it."""
    assert (await done(doors, video_id)).transcript == PENDING
    await done(doors, video_id, "hearing")
    return await done(doors, video_id)


async def is_found(doors: Doors, video_id: str, words: str) -> bool:
    found = await doors.milvus.search_keyword(BUNDLE, words, k=50, expression="", timeout_s=10)
    return video_id in {candidate.video_id for candidate in found}


async def test_speech_of_a_video_without_transcript_is_found(
    doors: Doors, whisper: Path, talk: Path
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "heard", talk, None)
    told = await heard(doors, "heard")
    assert told.transcript == READY
    assert await is_found(doors, "heard", "dough")
    kept = (doors.settings.videos_dir / "heard" / "words.json").read_bytes()
    speech = msgspec.json.decode(kept, type=Speech)
    assert (speech.language, len(speech.words)) == ("en", 5)


@pytest.mark.parametrize("since", ["turned off", "dearer", "broken"])
async def test_words_that_were_heard_stay(
    doors: Doors, whisper: Path, talk: Path, tmp_path: Path, since: str
) -> None:
    add(doors, "stays", talk, None)
    await heard(hearing(doors, whisper), "stays")
    changed = {
        "turned off": doors,
        "dearer": hearing(doors, whisper, whisper_pix_per_minute=60.0),
        "broken": hearing(doors, tmp_path / "nothing"),
    }[since]
    doors.catalogue.control.enqueue(["stays"], "deepen")
    told = await done(changed, "stays")
    assert told.transcript == READY
    assert await is_found(doors, "stays", "dough")


async def test_a_transcript_that_was_sent_is_not_replaced_by_ear(
    doors: Doors, tmp_path: Path, talk: Path
) -> None:
    doors = hearing(doors, tmp_path / "no model is needed")
    add(doors, "sent", talk)
    told = await done(doors, "sent")
    assert told.transcript.state == "ready"
    assert await is_found(doors, "sent", "sourdough")


async def test_without_a_model_a_video_is_indexed_by_all_but_its_words(
    doors: Doors, whisper: Path, talk: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "whisper"
    shutil.copytree(whisper, folder)
    (folder / "model.bin").write_bytes(b"broken")
    doors = hearing(doors, folder)
    add(doors, "failed", talk, None)
    await done(doors, "failed")
    job = claim(doors, lane="hearing")
    await run(doors, job)
    told = doors.catalogue.library.video("failed")
    assert (doors.catalogue.jobs.job(job.id).state, told.state) == ("failed", "ready")
    assert told.transcript.state == "failed"
    assert told.transcript.reason is not None
    assert "the worker's log" in told.transcript.reason
    assert str(folder) not in told.transcript.reason


async def test_pix_pay_for_hearing_where_the_operator_says_so(
    doors: Doors, whisper: Path, talk: Path
) -> None:
    doors = hearing(doors, whisper, whisper_pix_per_minute=60.0, frames_per_pix=0.0)
    add(doors, "priced", talk, None)
    told = await done(doors, "priced")
    assert (told.transcript.state, told.transcript.reason) == (
        "absent",
        "speech is transcribed from 60 PIX a minute of sound on",
    )
    more = deeper(doors.settings)
    invested = doors.catalogue.ledger.invest("priced", InvestmentRequest(pix=100, key="k"), more)
    assert invested.job_id is not None
    told = await heard(doors, "priced")
    assert told.transcript == READY
    again = doors.catalogue.ledger.invest("priced", InvestmentRequest(pix=100, key="l"), more)
    assert again.job_id is None


async def test_where_nobody_speaks_the_transcript_is_absent(
    doors: Doors, whisper: Path, tmp_path: Path
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "silent", spoken(tmp_path / "silent.mp4", silence(6)), None)
    told = await heard(doors, "silent")
    assert told.transcript == Modality(percent=0, state="absent")


@pytest.fixture
async def hears(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Set when a process hears, which then goes no further."""
    loop, hears = asyncio.get_running_loop(), asyncio.Event()

    def stop_hearing(*stretch: object) -> FloatArray:
        (process,) = processes()
        process.suspend()
        loop.call_soon_threadsafe(hears.set)
        return decode_stretch(*stretch)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest.transcripts.speech, "decode_stretch", stop_hearing)
    return hears


@pytest.mark.parametrize("end", ["cancelled", "deleted", "worker stopped"])
async def test_a_job_that_ends_while_it_hears_leaves_no_process(
    doors: Doors, whisper: Path, talk: Path, hears: asyncio.Event, end: str
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "ended", talk, None)
    await done(doors, "ended")
    job = claim(doors, lane="hearing")
    running = asyncio.create_task(run(doors, job))
    await hears.wait()
    if end == "cancelled":
        doors.catalogue.control.cancel(job.id)
        await running
    elif end == "deleted":
        doors.catalogue.library.begin_delete("ended")
        await run(doors, claim(doors))
        await running
        assert not (doors.settings.videos_dir / "ended").exists()
        assert doors.catalogue.library.known(["ended"]) == set()
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert processes() == []
    state = doors.catalogue.jobs.job(job.id).state
    assert state == ("queued" if end == "worker stopped" else "cancelled")


async def test_a_video_is_found_by_its_pictures_and_looked_at_again_while_it_is_heard(
    doors: Doors, whisper: Path, talk: Path, hears: asyncio.Event
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "early", talk, None)
    await done(doors, "early")
    before = doors.catalogue.analyses.segment_ids("early")
    job = claim(doors, lane="hearing")
    running = asyncio.create_task(run(doors, job))
    await hears.wait()

    picture = units(1, BUNDLE.dims.vision, "frames")[0]
    found = await doors.milvus.search_vector(
        BUNDLE, "visual", picture, k=50, expression="", timeout_s=10
    )
    assert "early" in {candidate.video_id for candidate in found}
    assert not doors.catalogue.jobs.is_running("early")  # so others may write its rows
    doors.catalogue.ledger.invest(
        "early", InvestmentRequest(pix=50, key="k"), deeper(doors.settings)
    )
    assert (await done(doors, "early")).transcript.state in ("pending", "running")
    assert not doors.catalogue.jobs.is_due()
    assert not doors.catalogue.jobs.is_due("hearing")  # it is being heard: once is enough

    (process,) = processes()
    process.resume()
    await running
    assert (await done(doors, "early")).transcript == READY
    assert await is_found(doors, "early", "dough")
    assert before <= doors.catalogue.analyses.segment_ids("early")
    assert await agrees(doors, "early")


async def test_words_come_to_the_rows_that_are_there_and_nothing_is_decoded(
    doors: Doors, whisper: Path, talk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "added", talk, None)
    await done(doors, "added")
    before = await counts(doors, "added")
    assert before["speech"] == 0
    await done(doors, "added", "hearing")
    embedder(doors).calls = 0
    failing_with(doors, Unavailable("triton", "away"))
    await run(doors, job := claim(doors))
    assert doors.catalogue.jobs.job(job.id).state == "queued"  # it waits for Triton

    embedder(doors).before = lambda: None
    due(doors)
    monkeypatch.setattr(doors.catalogue.analyses, "store_transcript", crash)
    await run(doors, claim(doors))  # after the tokens and the rows were written
    monkeypatch.undo()
    due(doors)
    assert (await done(doors, "added")).transcript == READY
    after = await counts(doors, "added")
    assert after["speech"] >= 1
    assert after["visual"] == before["visual"]
    assert embedder(doors).calls == 0
    assert await agrees(doors, "added")


async def test_a_cancelled_hearing_leaves_a_video_that_says_so(
    doors: Doors, whisper: Path, talk: Path
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "unheard", talk, None)
    await done(doors, "unheard")
    (job,) = doors.catalogue.control.page(state="queued", video_id="unheard", limit=9)
    doors.catalogue.control.cancel(job.id)
    told = doors.catalogue.library.video("unheard")
    assert (told.state, told.transcript.state) == ("ready", "absent")
    assert told.transcript.reason is not None
    assert told.transcript.reason.startswith("cancelled")


def crash(*_given: object) -> None:
    raise RuntimeError("the worker died here")


async def agrees(doors: Doors, video_id: str) -> bool:
    """Say whether catalogue, index and tokens have the same of a video."""
    parts = doors.settings, doors.catalogue, doors.milvus
    found = await verify(*parts, BUNDLE, lambda *_: None)
    return found.videos == 1 and video_id not in {each.video_id for each in found.findings}


def test_a_worker_without_its_model_does_not_start(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, "", whisper=str(tmp_path / "nothing"))
    ended = subprocess.run(
        [sys.executable, "-m", "ingest.worker"],
        env=os.environ | settings_to_environment(settings),
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )
    assert ended.returncode == 1
    assert "pixserve worker: PIXSERVE_WHISPER: there is no folder" in ended.stderr
