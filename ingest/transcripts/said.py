"""What is said in a video, from where it is best known: sidecar, embedded track, or by ear.

Reading is quick, and part of a video's analysis; hearing takes far longer, and is a job of its own.
"""

import asyncio
import logging
from dataclasses import dataclass, replace
from pathlib import Path

from gateway.errors import ConfigurationError, MediaRefused, ModelFailed
from gateway.settings import Settings
from ingest.budget import pays_transcript
from ingest.media import MediaInfo
from ingest.transcripts.speech import Tell, find_model, heard_before, recognise, recogniser_name
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
    problem: str | None = None  # why speech is not recognised, for the creator
    is_awaited: bool = False  # speech is still to be heard; what is here is older, or nothing


NOTHING_SAID = Said()


async def what_is_said(
    path: Path,
    info: MediaInfo,
    sidecar: Sidecar | None,
    language: str | None,
    pix: int,
    settings: Settings,
    kept: Path | None,
) -> Said:
    """Read a video's transcript; where it has none, what was heard, or is to be heard.

    Words that were heard before stay, even where recognition was turned off since.

    Args:
        path: the file.
        info: what it is.
        sidecar: what came with it; it counts even where it is empty.
        language: that the video states, to choose among its subtitle tracks.
        pix: invested in it.
        settings: whether speech is recognised, and with which model.
        kept: the file that keeps what was heard; None: nothing is kept, so nothing to be heard.

    Raises:
        InvalidRequest: the sidecar is broken.
        MediaRefused, MediaLimitExceeded: a subtitle track cannot be read.
        Unavailable: the sandbox died.
    """
    if sidecar is not None:
        return Said(await asyncio.to_thread(read_sidecar, sidecar.data, sidecar.name))
    cues = await asyncio.to_thread(read_embedded, path, info, language)
    if cues or info.audio is None or kept is None:
        return Said(cues)
    before = await asyncio.to_thread(heard_before, kept, info.duration_s)
    if before is not None:
        is_due = _pays(info, pix, settings) and _is_of_another_model(before, settings)
        return replace(_of(before), is_awaited=is_due)
    if _pays(info, pix, settings):
        return Said(is_awaited=True)
    if settings.whisper:
        needed = settings.whisper_pix_per_minute
        return Said(problem=f"speech is transcribed from {needed:g} PIX a minute of sound on")
    return NOTHING_SAID


def _pays(info: MediaInfo, pix: int, settings: Settings) -> bool:
    return pays_transcript(info.duration_s, pix, settings)


def _is_of_another_model(before: Speech, settings: Settings) -> bool:
    """Tell whether there is another model to hear with than the one that heard before."""
    try:
        return before.recogniser != recogniser_name(find_model(settings), settings)
    except ConfigurationError as error:
        log.error("speech is not recognised: %s", error)
        return False


async def recognised(
    path: Path, info: MediaInfo, settings: Settings, kept: Path, tell: Tell
) -> None:
    """Recognise the speech of a file and keep it, from where an earlier try was interrupted.

    Args:
        path: the file.
        info: what it is; it has sound.
        settings: with which model.
        kept: the file that keeps what is heard.
        tell: told the share of the sound that is heard.

    Raises:
        MediaRefused: it cannot be recognised; the message is for the creator.
        NotFound: the video was deleted meanwhile.
        StorageFull: what was heard cannot be kept.
        Unavailable: the sandbox died.
    """
    try:
        speech = await recognise(path, info, settings, kept, tell)
    except ConfigurationError as error:  # its message names files of this machine
        log.error("speech is not recognised: %s", error)
        problem = "recognition is not set up rightly: the worker's log says more"
        raise MediaRefused("speech", problem) from error
    except ModelFailed as error:
        log.error("speech of %s is not recognised: %s", path.parent.name, error)
        problem = "recognition failed on this sound: the worker's log says more"
        raise MediaRefused("speech", problem) from error
    log.info(
        "heard %d words of %s in %s (probability %.2f)",
        *(len(speech.words), path.parent.name, speech.language, speech.language_probability),
    )


def _of(speech: Speech) -> Said:
    return Said(cues_of(speech.words), speech.language, speech.language_probability)
