"""Sound, decoded inside the sandbox to 16 kHz mono."""

from collections.abc import Iterable, Iterator
from typing import cast

import msgspec
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream

from ensembles.arrays import FloatArray
from ensembles.contracts import (
    ABSENT,
    AUDIO_RATE_HZ,
    AUDIO_WINDOW_S,
    AUDIO_WINDOW_SAMPLES,
    MAX_AUDIO_SAMPLES,
)
from gateway.errors import MediaRefused
from ingest.calls import Result, Source
from ingest.container import (
    QUICK,
    SOUND_CONTAINERS,
    VIDEO_CONTAINERS,
    AudioPacket,
    audio_stream,
    damage_forgiven,
    open_media,
)
from ingest.decode import WindowsWanted

AUDIO_PREROLL_S = 0.2  # decoded before a window, until the decoder's overlap is filled
AUDIO_GAP_S = 0.05  # between packets that belong together
SOUND_TOLERANCE_SAMPLES = AUDIO_RATE_HZ // 10  # encoders pad what they are given


def windows_inside(source: Source, arguments: bytes) -> Result:
    """Decode the windows wanted of a chunk's sound: `decode_windows`."""
    wanted = msgspec.msgpack.decode(arguments, type=WindowsWanted)
    starts_s = [start_s for start_s in wanted.starts_s if start_s != ABSENT]
    windows = np.zeros((len(wanted.starts_s), AUDIO_WINDOW_SAMPLES), np.float32)
    with open_media(source, VIDEO_CONTAINERS, QUICK) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaRefused("no_sound", "the chunk has no sound stream")
        tick_s = float(stream.time_base or 0)
        packets = [p for p in container.demux(stream) if p.size and near(p, tick_s, starts_s)]
        for run in contiguous(packets, tick_s):
            begin_s, samples = decode_samples(stream, run)
            for window, start_s in zip(windows, wanted.starts_s, strict=True):
                if start_s != ABSENT:
                    paste(window, samples, round((begin_s - start_s) * AUDIO_RATE_HZ))
    return Result(arrays=(windows,))


def near(packet: AudioPacket, tick_s: float, starts_s: Iterable[float]) -> bool:
    """Say whether one of the windows that begin at `starts_s` needs a packet of sound."""
    if packet.pts is None:
        return False
    begin_s = packet.pts * tick_s
    end_s = begin_s + (packet.duration or 0) * tick_s
    return any(
        end_s >= start_s - AUDIO_PREROLL_S and begin_s < start_s + AUDIO_WINDOW_S
        for start_s in starts_s
    )


def contiguous(packets: Iterable[AudioPacket], tick_s: float) -> Iterator[list[AudioPacket]]:
    """Group packets, timed in ticks of so many seconds, into runs without a gap."""
    run: list[AudioPacket] = []
    end_s = 0.0
    for packet in packets:
        begin_s = cast(int, packet.pts) * tick_s
        if run and begin_s > end_s + AUDIO_GAP_S:
            yield run
            run = []
        run.append(packet)
        end_s = begin_s + (packet.duration or 0) * tick_s
    if run:
        yield run


def decode_samples(
    stream: AudioStream, packets: Iterable[AudioPacket], at_most: int | None = None
) -> tuple[float, FloatArray]:
    """Decode a run of packets to 16 kHz mono.

    Args:
        stream: whose packets they are.
        packets: without a gap.
        at_most: stop when there are more samples than this.

    Returns:
        When the first sample sounds, in seconds of the file's clock, and the samples, (samples,).
    """
    context = stream.codec_context
    context.flush_buffers()
    resampler = AudioResampler(format="flt", layout="mono", rate=AUDIO_RATE_HZ)
    begin_s: float | None = None
    parts: list[FloatArray] = []
    count = 0
    for frame in _frames_of(stream, packets):
        if begin_s is None:
            begin_s = frame.time or 0.0
        for piece in resampler.resample(frame):
            parts.append(cast(FloatArray, piece.to_ndarray()).reshape(-1))
            count += parts[-1].size
        if at_most is not None and count > at_most:
            break
    parts.extend(cast(FloatArray, p.to_ndarray()).reshape(-1) for p in resampler.resample(None))
    samples = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    return begin_s or 0.0, np.nan_to_num(samples).clip(-1, 1)


def _frames_of(stream: AudioStream, packets: Iterable[AudioPacket]) -> Iterator[AudioFrame]:
    for packet in packets:
        with damage_forgiven():
            yield from packet.decode()
    with damage_forgiven():
        yield from stream.codec_context.decode(None)


def paste(window: FloatArray, samples: FloatArray, offset: int) -> None:
    """Copy samples that begin `offset` after the window's start, where they overlap it."""
    low, high = max(0, offset), min(window.size, offset + samples.size)
    if low < high:
        window[low:high] = samples[low - offset : high - offset]


def sound_inside(source: Source, _arguments: bytes) -> Result:
    """Decode a file's sound: `decode_sound`."""
    longest = MAX_AUDIO_SAMPLES + SOUND_TOLERANCE_SAMPLES
    with open_media(source, SOUND_CONTAINERS) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaRefused("no_sound", "the file has no sound")
        packets = (packet for packet in container.demux(stream) if packet.size)
        _, samples = decode_samples(stream, packets, longest)
    if samples.size == 0:
        raise MediaRefused("undecodable", "the file's sound cannot be decoded")
    if samples.size > longest:
        limit_s = MAX_AUDIO_SAMPLES / AUDIO_RATE_HZ
        detail = f"the sound is over {limit_s:g} s long: send a part of it"
        raise MediaRefused("too_long", detail)
    return Result(arrays=(samples[:MAX_AUDIO_SAMPLES],))
