"""What frames look like, in a few numbers, and where sound sets in: runs inside the sandbox.

A frame becomes a 64-bit perceptual hash, a histogram of colours and its change since the frame
looked at before; nothing larger leaves the sandbox.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from types import MappingProxyType
from typing import cast

import msgspec
import numpy as np
from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.contracts import AUDIO_RATE_HZ
from gateway.errors import MediaRefused
from ingest.calls import Result, Source
from ingest.container import (
    SOUND_CONTAINERS,
    VideoPacket,
    audio_stream,
    damage_forgiven,
    open_media,
    open_picture,
)
from ingest.pictures import check_pixels
from ingest.sounds import decode_samples

THUMBNAIL_PX = 32  # side of the square that is hashed
HASH_SIDE = 8  # low frequencies kept each way: 64 bits
HASH_NOISE = 32.0  # of a frequency: what two grey levels of noise make; less is no structure
COLOUR_LEVELS = 4  # a channel: 64 colours in all

ROUGHLY = {"skip_loop_filter": "all"}  # without the filter that smooths blocks

ONSET_FRAME_S = 0.05
ONSET_BANDS = 24
ONSET_DEVIATIONS = 5.0  # over the median rise, in median absolute deviations
ONSET_PACKETS = 2_000  # decoded at a time, so that memory is bounded


class Between(msgspec.Struct, frozen=True):
    """The arguments of `look_between`: stretches from a keyframe to a later frame, in ticks."""

    stretches: tuple[tuple[int, int], ...]


class SamplesWanted(msgspec.Struct, frozen=True):
    """The arguments of `look_at_all`."""

    samples_per_s: float


class Looks:
    """Collects the looks of frames, in the order of time."""

    def __init__(self) -> None:
        self._ticks: list[int] = []
        self._hashes: list[UInt8Array] = []
        self._colours: list[FloatArray] = []
        self._changes: list[float] = []
        self._first: FloatArray | None = None
        self._last: FloatArray | None = None

    def add(self, frame: VideoFrame) -> UInt8Array:
        """Look at one frame; return its hash, (8,) bytes.

        The hash tells which low frequencies of the brightness are over their median (Zauner,
        "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010).
        """
        check_pixels(frame.width, frame.height)
        small = frame.reformat(
            THUMBNAIL_PX, THUMBNAIL_PX, "rgb24", interpolation=Interpolation.AREA, threads=1
        )
        pixels = cast(UInt8Array, small.to_ndarray())  # (32, 32, 3)
        grey = (pixels @ _BT601).astype(np.float32)  # (32, 32)
        frequencies = _DCT @ grey @ _DCT.T  # (8, 8)
        levels = pixels.astype(np.int32) * COLOUR_LEVELS // 256  # (32, 32, 3)
        colour = (levels[..., 0] * COLOUR_LEVELS + levels[..., 1]) * COLOUR_LEVELS + levels[..., 2]
        counts = np.bincount(colour.reshape(-1), minlength=COLOUR_LEVELS**3)
        change = 0.0 if self._last is None else _change(self._last, grey)
        self._ticks.append(cast(int, frame.pts))
        look = np.packbits(frequencies > np.median(frequencies) + HASH_NOISE)
        self._hashes.append(look)
        self._colours.append((counts / counts.sum()).astype(np.float32))
        self._changes.append(change)
        self._first = grey if self._first is None else self._first
        self._last = grey
        return look

    def extend(self, later: "Looks") -> None:
        """Add looks that were collected apart and come after these."""
        if later._first is None:
            return
        change = 0.0 if self._last is None else _change(self._last, later._first)
        self._ticks += later._ticks
        self._hashes += later._hashes
        self._colours += later._colours
        self._changes += [change, *later._changes[1:]]
        self._first = later._first if self._first is None else self._first
        self._last = later._last

    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """Return ticks (n,), hashes (n, 8) bytes, colours (n, 64) and changes (n,)."""
        count = len(self._ticks)
        return (
            np.array(self._ticks, np.int64),
            np.array(self._hashes, np.uint8).reshape(count, HASH_SIDE),
            np.array(self._colours, np.float32).reshape(count, COLOUR_LEVELS**3),
            np.array(self._changes, np.float32),
        )


def _change(before: FloatArray, after: FloatArray) -> float:
    """Return the mean change of brightness, 0…1."""
    return float(np.abs(after - before).mean() / 255)


def _dct_matrix(rows: int, size: int) -> FloatArray:
    """Return the first rows of the cosine transform (DCT-II), shape (rows, size)."""
    k, n = np.arange(rows)[:, None], np.arange(size)[None, :]
    return np.asarray(np.cos(np.pi * (2 * n + 1) * k / (2 * size)), np.float32)


_DCT = _dct_matrix(HASH_SIDE, THUMBNAIL_PX)
_BT601 = np.array([0.299, 0.587, 0.114], np.float32)  # the brightness of red, green, blue


def looks_between_inside(source: Source, arguments: bytes) -> Result:
    """Decode short stretches and look at every frame of them that others are made from."""
    wanted = msgspec.msgpack.decode(arguments, type=Between)
    looks = Looks()
    with picture(source) as (container, stream):
        stream.codec_context.skip_frame = "NONREF"
        for first, last in wanted.stretches:
            stream.codec_context.flush_buffers()
            for frame in decode(stream, _from_keyframe(container, stream, first, last)):
                if frame.pts is not None and first <= frame.pts <= last:
                    looks.add(frame)
    return Result(arrays=looks.arrays())


def all_looks_inside(source: Source, arguments: bytes) -> Result:
    """Decode the whole picture and look at it so many times a second."""
    wanted = msgspec.msgpack.decode(arguments, type=SamplesWanted)
    looks = Looks()
    with picture(source) as (container, stream):
        stream.codec_context.skip_frame = "NONREF"
        due_s = float("-inf")
        for frame in decode(stream, (p for p in container.demux(stream) if p.size)):
            if frame.pts is not None and frame.time is not None and frame.time >= due_s:
                looks.add(frame)
                due_s = max(due_s + 1 / wanted.samples_per_s, frame.time)
    return Result(arrays=looks.arrays())


def onsets_inside(source: Source, _: bytes) -> Result:
    """Find when sound sets in: sudden rises of energy over frequency bands (spectral flux)."""
    onsets: list[float] = []
    with open_media(source, SOUND_CONTAINERS) as container:
        stream = audio_stream(container)
        if stream is None:
            raise MediaRefused("no_sound", "the file has no sound stream")
        packets = (packet for packet in container.demux(stream) if packet.size)
        while piece := list(islice(packets, ONSET_PACKETS)):
            begin_s, samples = decode_samples(stream, piece)
            onsets.extend(begin_s + at_s for at_s in _onsets(samples))
    return Result(arrays=(np.array(onsets, np.float64),))


def _onsets(samples: FloatArray) -> list[float]:
    """Return the onsets within samples, in seconds from the first one."""
    length = int(ONSET_FRAME_S * AUDIO_RATE_HZ)
    frames = samples[: samples.size // length * length].reshape(-1, length)
    if len(frames) < ONSET_BANDS:
        return []
    spectra = np.abs(np.fft.rfft(frames * np.hanning(length), axis=1))  # (frames, bins)
    bands = np.stack([part.mean(1) for part in np.array_split(spectra, ONSET_BANDS, axis=1)], 1)
    rises = np.diff(np.log(bands + 1e-3), axis=0).clip(0).sum(1)  # (frames - 1,)
    median = float(np.median(rises))
    spread = float(np.median(np.abs(rises - median)))
    found = np.flatnonzero(rises > median + ONSET_DEVIATIONS * max(spread, 0.1))
    return [(int(i) + 1) * ONSET_FRAME_S for i in found]


@contextmanager
def picture(
    source: Source, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file's picture, to be decoded ROUGHLY and with more of the decoder's options."""
    with open_picture(source, "file") as (container, stream):
        stream.codec_context.options = {**ROUGHLY, **more}
        yield container, stream


def _from_keyframe(
    container: InputContainer, stream: VideoStream, first: int, last: int
) -> Iterator[VideoPacket]:
    """Yield packets from the keyframe at `first` up to the one at `last`."""
    container.seek(first, stream=stream)
    begun = False
    for packet in container.demux(stream):
        begun = begun or packet.pts == first
        if begun and packet.size:
            yield packet
        if packet.pts == last:
            return


def decode(stream: VideoStream, packets: Iterable[VideoPacket]) -> Iterator[VideoFrame]:
    """Decode packets to the last frame; a damaged packet costs its own frames only."""
    for packet in packets:
        with damage_forgiven():
            yield from packet.decode()
    with damage_forgiven():
        yield from stream.codec_context.decode(None)
