"""Speech recognition of a video's sound by Whisper, where the operator has turned it on.

The sound is decoded in the sandbox, a window at a time, so memory does not grow with its length. A
window ends where nobody speaks. What is heard is kept beside the video after each window: a try
that was interrupted goes on from there, and more PIX later hears nothing twice.
"""

import asyncio
import importlib.util
from collections.abc import Callable
from pathlib import Path

import msgspec

from gateway.api.incoming import room
from gateway.errors import ConfigurationError, ModelFailed, NotFound
from gateway.settings import Settings
from ingest.files import replacing
from ingest.media import MediaInfo
from ingest.transcripts.recogniser import Recogniser, RecogniserLost, recogniser
from ingest.transcripts.recogniser_child import Heard, Listen, Load
from ingest.transcripts.stretches import decode_stretch
from ingest.transcripts.words import Speech, Word, inside

WORDS_FILE = "words.json"  # in the video's folder
WINDOW_S = 120.0  # of sound heard at once: 8 MB of samples
STARTS = 2  # of the process for one window, where it dies
FILES = ("config.json", "model.bin", "tokenizer.json")  # of a model's folder, and …
VOCABULARIES = ("vocabulary.json", "vocabulary.txt")  # … one of these

Tell = Callable[[float], None]  # share of the sound that is heard, 0…1


def find_model(settings: Settings) -> Load:
    """Return which model hears, and how.

    Raises:
        ConfigurationError: the extra is not installed, a file is missing, or a model of the hub
            has no revision; the message says what to install or which files to put where.
    """
    if importlib.util.find_spec("faster_whisper") is None:
        raise ConfigurationError(
            "PIXSERVE_WHISPER is set, but faster-whisper is not installed: "
            "pip install 'pixserve[whisper]', or unset it"
        )
    folder = Path(settings.whisper).expanduser()
    if not folder.is_dir() and not settings.whisper_revision:
        raise ConfigurationError(
            f"PIXSERVE_WHISPER: there is no folder {settings.whisper}. Put {_file_list()} there; "
            "or name a model of the hub, with a commit of it in PIXSERVE_WHISPER_REVISION"
        )
    if folder.is_dir():
        _check_files(folder)
    return Load(
        model=str(folder) if folder.is_dir() else settings.whisper,
        revision=None if folder.is_dir() else settings.whisper_revision,
        device=settings.whisper_device,
        compute=settings.whisper_compute,
        threads=settings.whisper_threads,
    )


async def recognise(
    path: Path,
    info: MediaInfo,
    settings: Settings,
    kept: Path | None,
    tell: Tell,
    window_s: float = WINDOW_S,
) -> Speech:
    """Recognise what is said in a file.

    Args:
        path: the file.
        info: what it is; it has sound.
        settings: which model, and how it is run.
        kept: where to keep what was heard, and look for what was heard before; None: nowhere.
        tell: told how far it is.
        window_s: heard at once.

    Raises:
        ConfigurationError: the extra or the model is missing or broken.
        ModelFailed: the model fails on this sound.
        MediaRefused, MediaLimitExceeded: the sound cannot be decoded within its limits.
        NotFound: the folder of `kept` is gone: the video was deleted.
        StorageFull: what was heard cannot be kept.
    """
    load = find_model(settings)
    speech = Speech(recogniser=recogniser_name(load, settings))
    before = await asyncio.to_thread(_kept, kept)
    if before is not None and before.recogniser == speech.recogniser:
        speech = before
    starts = 0
    while speech.heard_s < info.duration_s:
        before = speech
        try:
            async with recogniser(load) as running:
                while speech.heard_s < info.duration_s:
                    speech = await _next_window(
                        running, path, info, settings, speech, tell, window_s
                    )
                    await asyncio.to_thread(_keep, kept, speech)
        except RecogniserLost as error:
            starts = 1 if speech != before else starts + 1
            if starts == STARTS:
                message = f"speech recognition died {STARTS} times at {speech.heard_s:.0f} s"
                raise ModelFailed("whisper", message) from error
    return speech


# ---- one window ---------------------------------------------------------------------------------


async def _next_window(
    running: Recogniser,
    path: Path,
    info: MediaInfo,
    settings: Settings,
    speech: Speech,
    tell: Tell,
    window_s: float,
) -> Speech:
    """Hear the window after what was heard."""
    start_s = speech.heard_s
    length_s = min(window_s, info.duration_s - start_s)
    audio = await asyncio.to_thread(decode_stretch, path, info, start_s, length_s)
    is_last = info.duration_s - start_s <= window_s
    known = speech.language or settings.whisper_language or None
    wanted = Listen(len(audio), is_last, known)
    heard = await running.hear(
        wanted, audio, lambda at_s: tell(min(1.0, (start_s + at_s) / info.duration_s))
    )
    end_s = info.duration_s if is_last else start_s + heard.heard_s
    return after(speech, heard, end_s)


def after(speech: Speech, heard: Heard, end_s: float) -> Speech:
    """Add what was heard in the next window, which ends at `end_s`; the first language stays."""
    start_s = speech.heard_s
    moved = (
        Word(word.start_s + start_s, word.end_s + start_s, word.text, word.probability)
        for word in heard.words
    )
    is_first = speech.language is None
    return Speech(
        recogniser=speech.recogniser,
        heard_s=end_s,
        language=heard.language if is_first else speech.language,
        language_probability=(
            heard.language_probability if is_first else speech.language_probability
        ),
        words=(*speech.words, *inside(moved, start_s, end_s)),
    )


# ---- what is kept -------------------------------------------------------------------------------


def heard_before(kept: Path | None, duration_s: float) -> Speech | None:
    """Return what was heard of a whole video, by whichever model; None where it was not."""
    speech = _kept(kept)
    return speech if speech is not None and speech.heard_s >= duration_s else None


def _kept(path: Path | None) -> Speech | None:
    """Return what was heard before; None where there is nothing, or it cannot be read."""
    if path is None:
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=Speech)
    except (OSError, msgspec.MsgspecError):
        return None


def _keep(path: Path | None, speech: Speech) -> None:
    if path is None:
        return
    try:
        with room(), replacing(path) as file:
            file.write(msgspec.json.encode(speech))
    except FileNotFoundError as error:
        raise NotFound(f"the video {path.parent.name} was deleted") from error


def recogniser_name(load: Load, settings: Settings) -> str:
    """Return a recogniser's name: all that changes what it hears."""
    parts = (load.model, load.revision, load.compute, settings.whisper_language)
    return " ".join(part for part in parts if part)


# ---- where models come from ---------------------------------------------------------------------


def _check_files(folder: Path) -> None:
    missing = [name for name in FILES if not (folder / name).is_file()]
    if not any((folder / name).is_file() for name in VOCABULARIES):
        missing.append(VOCABULARIES[0])
    if missing:
        raise ConfigurationError(
            f"PIXSERVE_WHISPER: {folder} lacks {', '.join(missing)}; expected {_file_list()}"
        )


def _file_list() -> str:
    return (
        f"{', '.join(FILES)} and {' or '.join(VOCABULARIES)} of a model that ctranslate2's "
        "converter made"
    )
