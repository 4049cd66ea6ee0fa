"""Stretches of a file's sound for speech recognition, decoded inside the sandbox to 16 kHz mono."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import cast

import av
import msgspec
import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError

from ensembles.arrays import FloatArray
from ensembles.contracts import AUDIO_RATE_HZ
from gateway.errors import MediaRefused
from ingest.calls import Result, Source
from ingest.container import SOUND_CONTAINERS, AudioPacket, audio_stream, open_media
from ingest.media import MediaInfo
from ingest.probe import PROBE_LIMITS, file_limits
from ingest.sandbox import run_limited
from ingest.sounds import AUDIO_PREROLL_S, contiguous, decode_samples, paste

MAX_STRETCH_S = 600.0  # at once: 38 MB of samples


class StretchWanted(msgspec.Struct, frozen=True):
    """The arguments of `decode_stretch`."""

    start_s: float  # on the file's own clock
    samples: int


def decode_stretch(path: Path, info: MediaInfo, start_s: float, length_s: float) -> FloatArray:
    """Decode a stretch of a file's sound.

    Args:
        path: the file.
        info: what it is.
        start_s: on the player's clock.
        length_s: at most MAX_STRETCH_S.

    Returns:
        16 kHz mono, -1…1, shape (samples,); zeros where nothing was recorded or can be decoded.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be read within its limits.
    """
    assert length_s <= MAX_STRETCH_S
    wanted = StretchWanted(info.start_s + start_s, round(length_s * AUDIO_RATE_HZ))
    reply = run_limited("decode_stretch", path, wanted, file_limits(path, PROBE_LIMITS))
    return cast(FloatArray, reply.arrays[0])


# ---- inside the sandbox -------------------------------------------------------------------------


def stretch_inside(source: Source, arguments: bytes) -> Result:
    """Decode the packets that sound in a stretch: `decode_stretch`."""
    wanted = msgspec.msgpack.decode(arguments, type=StretchWanted)
    stretch = np.zeros(wanted.samples, np.float32)
    with open_media(source, SOUND_CONTAINERS) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaRefused("no_sound", "the file has no sound")
        end_s = wanted.start_s + wanted.samples / AUDIO_RATE_HZ
        packets = _packets(container, stream, wanted.start_s, end_s)
        for run in contiguous(packets, float(stream.time_base or 0)):
            begin_s, samples = decode_samples(stream, run, wanted.samples + AUDIO_RATE_HZ)
            paste(stretch, samples, round((begin_s - wanted.start_s) * AUDIO_RATE_HZ))
    return Result(arrays=(stretch,))


def _packets(
    container: InputContainer, stream: AudioStream, start_s: float, end_s: float
) -> Iterator[AudioPacket]:
    """Yield the packets that a stretch needs, and a little before it."""
    early_s, tick_s = start_s - AUDIO_PREROLL_S, float(stream.time_base or 0)
    if early_s > 0:
        with suppress(FFmpegError):  # a file that cannot seek is read from its beginning
            container.seek(int(early_s * av.time_base))
    for packet in container.demux(stream):
        if not packet.size or packet.pts is None:
            continue
        begin_s = packet.pts * tick_s
        if begin_s >= end_s:
            return
        if begin_s + (packet.duration or 0) * tick_s >= early_s:
            yield packet
