"""Streams in, file out: encodes pictures, sound and text, interleaved in the order of time."""

import heapq
from collections.abc import Iterable, Iterator
from fractions import Fraction
from operator import itemgetter
from typing import TypeAlias

import av
import numpy as np
import numpy.typing as npt
from av.audio.stream import AudioStream
from av.container import OutputContainer
from av.stream import Stream
from av.video.stream import VideoStream

TEXT_TIME_BASE = Fraction(1, 1000)

# What is written to a file: when in the file, s, on which stream, and a frame or a text packet.
Encodable: TypeAlias = "tuple[float, Stream, av.VideoFrame | av.AudioFrame | av.Packet[Stream]]"


def write_interleaved(container: OutputContainer, tracks: Iterable[Iterable[Encodable]]) -> None:
    """Encode and write all tracks in the order of time, so that the file is interleaved.

    Args:
        container: open for writing, with all its streams added.
        tracks: what goes into each stream, in its order of time.
    """
    for _, stream, item in heapq.merge(*tracks, key=itemgetter(0)):
        container.mux(item if isinstance(item, av.Packet) else _encode(stream, item))
    for stream in container.streams:
        if isinstance(stream, VideoStream | AudioStream):
            container.mux(stream.encode(None))


def sound_blocks(
    stream: AudioStream,
    samples: npt.NDArray[np.float32],
    rate_hz: int,
    block: int,
    *,
    start_s: float = 0.0,
) -> Iterator[Encodable]:
    """Yield mono sound in blocks, ready to be encoded.

    Args:
        stream: where it goes.
        samples: shape (samples,), -1…1.
        rate_hz: samples a second.
        block: samples handed to the encoder at a time.
        start_s: added to the timestamps in the file.
    """
    for at in range(0, len(samples), block):
        mono = samples[None, at : at + block]  # (1, samples)
        frame = av.AudioFrame.from_ndarray(mono, format="fltp", layout="mono")
        frame.sample_rate = rate_hz
        frame.time_base = Fraction(1, rate_hz)
        frame.pts = at + round(start_s * rate_hz)
        yield at / rate_hz, stream, frame


def text_packet(stream: Stream, data: bytes, start_s: float, end_s: float) -> "av.Packet[Stream]":
    """Return one line of a text track, shown from `start_s` to `end_s`; `data` as its codec has it.

    The stream's time base is `TEXT_TIME_BASE`.
    """
    packet: av.Packet[Stream] = av.Packet(data)
    packet.stream, packet.time_base = stream, TEXT_TIME_BASE
    packet.pts = packet.dts = round(start_s * 1000)
    packet.duration = round((end_s - start_s) * 1000)
    return packet


def _encode(
    stream: Stream, frame: av.VideoFrame | av.AudioFrame
) -> "list[av.Packet[VideoStream]] | list[av.Packet[AudioStream]]":
    if isinstance(frame, av.VideoFrame):
        assert isinstance(stream, VideoStream)
        return stream.encode(frame)
    assert isinstance(stream, AudioStream)
    return stream.encode(frame)
