"""A process of its own (`python -m` this module) that holds one Whisper model and hears with it.

The recogniser starts it for one video. It is sent samples, never a file, and tells words. The
model's library and its threads stay in here, and killing it is how a recognition is stopped.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from ensembles.contracts import AUDIO_RATE_HZ
from ingest.transcripts.words import Word

LENGTH_BYTES = 4  # of a message, little-endian, before it
MAX_MESSAGE_BYTES = 16 * 1024**2

# Speech is cut where nobody speaks, so that no window ends inside a word.
SILENCE_MS = 500  # that parts two stretches of speech
PAD_MS = 200  # kept around a stretch
LONGEST_S = 30.0  # of a stretch: what Whisper hears at once
BEAMS = 5
MAX_REPETITION = 2.4  # length over compressed length: above it Whisper is caught in a loop

NICENESS = 19  # new videos come first
PR_SET_PDEATHSIG = 1


class Load(msgspec.Struct, frozen=True, tag=True):
    """The first message: which model, and how it is run."""

    model: str  # a folder, or a model of the hub
    revision: str | None  # of the hub
    device: str
    compute: str
    threads: int


class Listen(msgspec.Struct, frozen=True, tag=True):
    """Hear what follows this message: so many float32 samples, 16 kHz mono."""

    samples: int
    is_last: bool  # the sound ends with them
    language: str | None  # None: find out


class Loaded(msgspec.Struct, frozen=True, tag=True):
    """The model is ready."""


class Reached(msgspec.Struct, frozen=True, tag=True):
    """How far hearing is, in seconds of the samples."""

    at_s: float


class Heard(msgspec.Struct, frozen=True, tag=True):
    """All that was said in the samples, times in seconds from their start."""

    words: tuple[Word, ...]
    language: str | None  # None: nothing was said
    language_probability: float
    heard_s: float  # what comes after it was cut off in the middle: send it again


class Failed(msgspec.Struct, frozen=True, tag=True):
    """Why there is no answer."""

    error: str


Told = Loaded | Reached | Heard | Failed


@dataclass(frozen=True)
class Stretch:
    """A stretch of speech, in samples."""

    start: int
    end: int


def whole(stretches: Sequence[Stretch], samples: int, is_last: bool) -> tuple[list[Stretch], int]:
    """Leave out the last stretch of speech where the samples may end in the middle of it.

    Args:
        stretches: in order.
        samples: how many there are.
        is_last: nothing comes after them.

    Returns:
        The stretches to hear, and the sample up to which the sound is then heard.
    """
    pad = PAD_MS * AUDIO_RATE_HZ // 1000
    if is_last or not stretches or stretches[-1].end < samples - pad:
        return list(stretches), samples
    if stretches[-1].start < samples // 2:  # it would not get any further
        return list(stretches), samples
    return list(stretches[:-1]), stretches[-1].start


def hear(model: Any, audio: FloatArray, wanted: Listen) -> Iterator[Reached | Heard]:
    """Find speech, recognise it, and tell how far it is, then all that was said.

    Args:
        model: a `faster_whisper.WhisperModel`.
        audio: (samples,) 16 kHz mono.
        wanted: what is asked.
    """
    from faster_whisper.transcribe import restore_speech_timestamps
    from faster_whisper.vad import VadOptions, collect_chunks, get_speech_timestamps

    options = VadOptions(
        max_speech_duration_s=LONGEST_S, min_silence_duration_ms=SILENCE_MS, speech_pad_ms=PAD_MS
    )
    found = [Stretch(s["start"], s["end"]) for s in get_speech_timestamps(audio, options)]
    stretches, heard = whole(found, len(audio), wanted.is_last)
    heard_s = heard / AUDIO_RATE_HZ
    if not stretches:
        yield Heard((), None, 0.0, heard_s)
        return
    places = [{"start": stretch.start, "end": stretch.end} for stretch in stretches]
    (speech,), _ = collect_chunks(audio, places)
    segments, info = model.transcribe(
        speech,
        language=wanted.language,
        beam_size=BEAMS,
        temperature=0.0,  # no sampling: done again, it says the same
        condition_on_previous_text=False,  # a loop ends with its window
        word_timestamps=True,
        vad_filter=False,  # it is done above
    )
    words: list[Word] = []
    reached_s = 0.0
    for segment in restore_speech_timestamps(segments, places, AUDIO_RATE_HZ):
        if segment.compression_ratio <= MAX_REPETITION:
            words.extend(map(_word, segment.words or ()))
        reached_s = min(max(reached_s, float(segment.end)), heard_s)
        yield Reached(reached_s)
    yield Heard(tuple(words), info.language, float(info.language_probability), heard_s)


def _word(word: Any) -> Word:
    """Return a word of faster-whisper, whose numbers are numpy's."""
    return Word(float(word.start), float(word.end), word.word, float(word.probability))


# ---- the process --------------------------------------------------------------------------------


def packed(message: msgspec.Struct) -> bytes:
    """Return a message with its length before it."""
    data = msgspec.msgpack.encode(message)
    return len(data).to_bytes(LENGTH_BYTES, "little") + data


def main() -> None:
    """Load the model that the first message names, then hear until the caller hangs up."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    for number in (signal.SIGINT, signal.SIGTERM):  # the worker ends this, in its own time
        signal.signal(number, signal.SIG_IGN)
    requests, replies = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no reply
    try:
        for told in _answers(requests):
            replies.write(packed(told))
            replies.flush()
    except BrokenPipeError:
        return  # nobody listens any more


def _answers(requests: BinaryIO) -> Iterator[Told]:
    """Yield what is to be told; ends after a failure."""
    try:
        load = msgspec.msgpack.decode(_message(requests), type=Load)
        model = _loaded(load)
        yield Loaded()
        while data := _message(requests):
            wanted = msgspec.msgpack.decode(data, type=Listen)
            audio = np.frombuffer(requests.read(wanted.samples * 4), np.float32)
            yield from hear(model, audio, wanted)
    except Exception as error:  # whatever the library raises must reach the caller as words
        yield Failed(f"{type(error).__name__}: {error}")


def _loaded(load: Load) -> Any:
    """Load a model. From the hub: unverified where no hub can be reached."""
    from faster_whisper import WhisperModel, download_model

    is_folder = os.path.isdir(load.model)
    folder = load.model if is_folder else download_model(load.model, revision=load.revision)
    return WhisperModel(
        folder, device=load.device, compute_type=load.compute, cpu_threads=load.threads
    )


def _message(requests: BinaryIO) -> bytes:
    """Return the next message; empty where the caller hung up."""
    return requests.read(int.from_bytes(requests.read(LENGTH_BYTES), "little"))


if __name__ == "__main__":
    main()
