import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import ingest.transcripts.speech
from ensembles.arrays import FloatArray
from gateway.doors import Doors
from gateway.schemas import InvestmentRequest, Modality, Video
from gateway.settings import settings_to_environment
from ingest.depth import deeper
from ingest.jobs import run
from ingest.pipeline import StageClock
from ingest.sandbox import SANDBOX
from ingest.transcripts.stretches import decode_stretch
from ingest.transcripts.words import Speech
from tests.gateways import BUNDLE, gateway_settings
from tests.ingests import add, claim, opened_doors
from tests.whispers import make_whisper, processes, silence, spoken, voice

pytestmark = pytest.mark.anyio
START_S = 120


@pytest.fixture(scope="module", autouse=True)
def sandbox() -> Iterator[None]:
    yield
    SANDBOX.close()


@pytest.fixture(scope="module")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sound = np.concatenate([silence(1), voice(5), silence(2)])
    return spoken(tmp_path_factory.mktemp("talk") / "talk.mp4", sound)


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str) -> AsyncIterator[Doors]:
    async with opened_doors(tmp_path, milvus_uri) as doors:
        yield doors


def hearing(doors: Doors, model: Path, **changes: object) -> Doors:
    settings = msgspec.structs.replace(doors.settings, whisper=str(model), **changes)
    return replace(doors, settings=settings)


async def done(doors: Doors, video_id: str) -> Video:
    """Do the next job; it succeeds, and the video is found by what it shows and how it sounds."""
    job = claim(doors)
    await run(doors, job)
    assert doors.catalogue.jobs.job(job.id).state == "succeeded"
    told = doors.catalogue.library.video(video_id)
    assert (told.state, told.visual.state, told.audio.state) == ("ready", "ready", "ready")
    return told


async def is_found(doors: Doors, video_id: str, words: str) -> bool:
    found = await doors.milvus.search_keyword(BUNDLE, words, k=50, expression="", timeout_s=10)
    return video_id in {candidate.video_id for candidate in found}


async def test_speech_of_a_video_without_transcript_is_found(
    doors: Doors, whisper: Path, talk: Path
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "heard", talk, None)
    told = await done(doors, "heard")
    assert told.transcript == Modality(percent=100, state="ready")
    assert await is_found(doors, "heard", "dough")
    kept = (doors.settings.videos_dir / "heard" / "words.json").read_bytes()
    speech = msgspec.json.decode(kept, type=Speech)
    assert (speech.language, len(speech.words)) == ("en", 5)


@pytest.mark.parametrize("since", ["turned off", "dearer", "broken"])
async def test_words_that_were_heard_stay(
    doors: Doors, whisper: Path, talk: Path, tmp_path: Path, since: str
) -> None:
    add(doors, "stays", talk, None)
    await done(hearing(doors, whisper), "stays")
    changed = {
        "turned off": doors,
        "dearer": hearing(doors, whisper, whisper_pix_per_minute=60.0),
        "broken": hearing(doors, tmp_path / "nothing"),
    }[since]
    doors.catalogue.control.enqueue(["stays"], "deepen")
    told = await done(changed, "stays")
    assert told.transcript == Modality(percent=100, state="ready")
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
    told = await done(doors, "failed")
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
    told = await done(doors, "priced")
    assert told.transcript == Modality(percent=100, state="ready")
    again = doors.catalogue.ledger.invest("priced", InvestmentRequest(pix=100, key="l"), more)
    assert again.job_id is None


async def test_where_nobody_speaks_the_transcript_is_absent(
    doors: Doors, whisper: Path, tmp_path: Path
) -> None:
    doors = hearing(doors, whisper)
    add(doors, "silent", spoken(tmp_path / "silent.mp4", silence(6)), None)
    told = await done(doors, "silent")
    assert told.transcript == Modality(percent=0, state="absent")


@pytest.mark.parametrize("end", ["cancelled", "worker stopped"])
async def test_a_job_that_ends_while_it_hears_leaves_no_process(
    doors: Doors, whisper: Path, talk: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    loop, hears = asyncio.get_running_loop(), asyncio.Event()

    def stop_hearing(*stretch: object) -> FloatArray:
        (process,) = processes()
        process.suspend()
        loop.call_soon_threadsafe(hears.set)
        return decode_stretch(*stretch)  # type: ignore[arg-type]

    monkeypatch.setattr(ingest.transcripts.speech, "decode_stretch", stop_hearing)
    doors = hearing(doors, whisper)
    job_id = add(doors, "ended", talk, None)
    running = asyncio.create_task(run(doors, claim(doors)))
    await hears.wait()
    if end == "cancelled":
        doors.catalogue.control.cancel(job_id)
        await running
    else:
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    assert processes() == []
    job = doors.catalogue.jobs.job(job_id)
    assert job.state == ("cancelled" if end == "cancelled" else "queued")


def test_hearing_takes_its_share_of_the_percentages() -> None:
    told: list[tuple[str, float]] = []
    clock = StageClock(lambda stage, percent: told.append((stage, percent)))
    with clock.stage("transcript", 4):
        clock.tell_heard(0.5)
        clock.tell_heard(1.0)
    with clock.stage("scenes", 5):
        clock.tell(0.0)
    clock.tell(1.0)
    percents = [percent for _, percent in told]
    assert percents == sorted(percents)
    assert told[1:3] == [("transcript", 37), ("transcript", 70)]
    assert told[-1] == ("embed", 95)


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
