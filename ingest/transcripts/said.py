"""What is said in a video, from where it is best known: sidecar, embedded track, or by ear."""

import asyncio
import logging
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import ConfigurationError, MediaRefused, ModelFailed
from gateway.settings import Settings
from ingest.budget import pays_transcript
from ingest.media import MediaInfo
from ingest.transcripts.speech import Tell, heard_before, recognise
from ingest.transcripts.subtitles import Cue, read_embedded, read_sidecar
from ingest.transcripts.words import Speech, cues_of

log = logging.getLogger("pixserve.worker")


@dataclass(frozen=True)
class Sidecar:
    """A subtitle file that came with a video."""

    data: bytes
    name: str


@dataclass(frozen=True)
class Said:
    """A video's transcript, or why it has none."""

    cues: tuple[Cue, ...] = ()
    language: str | None = None  # by ear, such as en
    language_probability: float = 0.0  # 0…1
    problem: str | None = None  # why speech was not recognised, for the creator
    is_failure: bool = False  # the problem is ours to mend, not PIX that are missing


NOTHING_SAID = Said()


async def what_is_said(
    path: Path,
    info: MediaInfo,
    sidecar: Sidecar | None,
    language: str | None,
    pix: int,
    settings: Settings,
    kept: Path | None,
    tell: Tell,
) -> Said:
    """Read a video's transcript; where it has none, recognise its speech if that is turned on.

    Speech that cannot be recognised costs a video its words, not its pictures and sounds; words
    that were heard before stay, even where recognition was turned off since.

    Args:
        path: the file.
        info: what it is.
        sidecar: what came with it; it counts even where it is empty.
        language: that the video states, to choose among its subtitle tracks.
        pix: invested in it.
        settings: whether speech is recognised, and with which model.
        kept: the file that keeps what was heard; None: nothing is kept.
        tell: told the share of the sound that is heard.

    Raises:
        InvalidRequest: the sidecar is broken.
        MediaRefused, MediaLimitExceeded: a subtitle track cannot be read.
        Unavailable: the sandbox died.
    """
    if sidecar is not None:
        return Said(await asyncio.to_thread(read_sidecar, sidecar.data, sidecar.name))
    cues = await asyncio.to_thread(read_embedded, path, info, language)
    if cues or info.audio is None:
        return Said(cues)
    before = await asyncio.to_thread(heard_before, kept, info.duration_s)
    said = NOTHING_SAID
    if pays_transcript(info.duration_s, pix, settings):
        said = await _by_ear(path, info, settings, kept, tell)
    elif settings.whisper:
        needed = settings.whisper_pix_per_minute
        said = Said(problem=f"speech is transcribed from {needed:g} PIX a minute of sound on")
    return said if said.cues or before is None else _of(before)


async def _by_ear(
    path: Path, info: MediaInfo, settings: Settings, kept: Path | None, tell: Tell
) -> Said:
    try:
        speech = await recognise(path, info, settings, kept, tell)
    except ConfigurationError as error:  # its message names files of this machine
        log.error("speech is not recognised: %s", error)
        problem = "speech recognition is not set up rightly: the worker's log says more"
        return Said(problem=problem, is_failure=True)
    except ModelFailed as error:
        log.error("speech of %s is not recognised: %s", path.parent.name, error)
        problem = "speech recognition failed on this sound: the worker's log says more"
        return Said(problem=problem, is_failure=True)
    except MediaRefused as error:
        return Said(problem=f"{error.reason}: {error.message}", is_failure=True)
    log.info(
        "heard %d words of %s in %s (probability %.2f)",
        *(len(speech.words), path.parent.name, speech.language, speech.language_probability),
    )
    return _of(speech)


def _of(speech: Speech) -> Said:
    return Said(cues_of(speech.words), speech.language, speech.language_probability)
