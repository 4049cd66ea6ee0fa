"""What frames look like, in a few numbers, and where sound sets in: runs inside the sandbox.

A frame becomes a 64-bit perceptual hash, a histogram of colours and its change since the frame
looked at before; nothing larger leaves the sandbox.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from types import MappingProxyType
from typing import cast

import msgspec
import numpy as np
from av.container import InputContainer
from av.sidedata.motionvectors import MotionVectors
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream
from numpy.typing import NDArray

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.contracts import AUDIO_RATE_HZ
from gateway.errors import MediaRefused
from ingest.calls import Result, Source
from ingest.container import (
    QUICK,
    SOUND_CONTAINERS,
    VIDEO_CONTAINERS,
    VideoPacket,
    audio_stream,
    damage_forgiven,
    open_media,
    video_stream,
)
from ingest.pictures import check_pixels
from ingest.sounds import decode_samples
from ingest.webp import Pictures, PicturesWanted

THUMBNAIL_PX = 32  # side of the square that is hashed
HASH_SIDE = 8  # low frequencies kept each way: 64 bits
HASH_NOISE = 32.0  # of a frequency: what two grey levels of noise make; less is no structure
COLOUR_LEVELS = 4  # a channel: 64 colours in all
SEEK_S = 1.0  # a gap that is jumped over instead of read

ROUGHLY = {"skip_loop_filter": "all"}  # without the filter that smooths blocks
WITH_MOTION = {"flags2": "+export_mvs+showall"}  # tell motion, give pictures of broken sequences

ONSET_FRAME_S = 0.05
ONSET_BANDS = 24
ONSET_DEVIATIONS = 5.0  # over the median rise, in median absolute deviations
ONSET_PACKETS = 2_000  # decoded at a time, so that memory is bounded


class Between(msgspec.Struct, frozen=True):
    """The arguments of `look_between`: stretches from a keyframe to a later frame, in ticks."""

    stretches: tuple[tuple[int, int], ...]


class KeyframesWanted(msgspec.Struct, frozen=True):
    """The arguments of `keyframe_looks`: presentation times, in ticks."""

    ticks: tuple[int, ...]  # of keyframes that are looked at
    hinted: tuple[int, ...] = ()  # of other packets, to be told how much of them is predicted
    pictures: PicturesWanted | None = None


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
        self._grey: FloatArray | None = None

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
        change = 0.0 if self._grey is None else float(np.abs(grey - self._grey).mean() / 255)
        self._ticks.append(cast(int, frame.pts))
        look = np.packbits(frequencies > np.median(frequencies) + HASH_NOISE)
        self._hashes.append(look)
        self._colours.append((counts / counts.sum()).astype(np.float32))
        self._changes.append(change)
        self._grey = grey
        return look

    def arrays(self) -> tuple[NDArray[np.generic], ...]:
        """Return ticks (n,), hashes (n, 8) bytes, colours (n, 64) and changes (n,)."""
        count = len(self._ticks)
        return (
            np.array(self._ticks, np.int64),
            np.array(self._hashes, np.uint8).reshape(count, HASH_SIDE),
            np.array(self._colours, np.float32).reshape(count, COLOUR_LEVELS**3),
            np.array(self._changes, np.float32),
        )


def _dct_matrix(rows: int, size: int) -> FloatArray:
    """Return the first rows of the cosine transform (DCT-II), shape (rows, size)."""
    k, n = np.arange(rows)[:, None], np.arange(size)[None, :]
    return np.asarray(np.cos(np.pi * (2 * n + 1) * k / (2 * size)), np.float32)


_DCT = _dct_matrix(HASH_SIDE, THUMBNAIL_PX)
_BT601 = np.array([0.299, 0.587, 0.114], np.float32)  # the brightness of red, green, blue


def keyframe_looks_inside(source: Source, arguments: bytes) -> Result:
    """Decode keyframes and hinted packets, each alone; take pictures of some.

    Without the pictures that it refers to a packet still tells which parts it takes from them.

    Returns:
        The looks' arrays; the share of each hinted packet's picture that is predicted, 0…1, and
        1 where it cannot be decoded; then, where pictures are wanted, the pictures' arrays and
        their size.
    """
    wanted = msgspec.msgpack.decode(arguments, type=KeyframesWanted)
    looks, keyframes = Looks(), set(wanted.ticks)
    predicted = dict.fromkeys(wanted.hinted, 1.0)
    with _picture(source, WITH_MOTION if wanted.hinted else {}) as (container, stream):
        pictures = Pictures(wanted.pictures, stream) if wanted.pictures else None
        for packet in _chosen(container, stream, (*wanted.ticks, *wanted.hinted)):
            for frame in _decode_alone(stream, packet):
                if packet.pts not in keyframes:
                    predicted[cast(int, packet.pts)] = _predicted_share(frame)
                    continue
                look = looks.add(frame)
                if pictures is not None:
                    pictures.offer(frame, look)
    shares = np.array([predicted[tick] for tick in wanted.hinted], np.float32)
    if pictures is None:
        return Result(arrays=(*looks.arrays(), shares))
    return Result(pictures.size, (*looks.arrays(), shares, *pictures.arrays()))


def _predicted_share(frame: VideoFrame) -> float:
    """Return the share of a picture that is taken from others, as its motion vectors tell."""
    vectors: MotionVectors | None = frame.side_data.get("MOTION_VECTORS")
    if vectors is None:
        return 0.0
    blocks = vectors.to_ndarray()
    area = float((blocks["w"].astype(np.int64) * blocks["h"]).sum())
    return min(1.0, area / (frame.width * frame.height))


def looks_between_inside(source: Source, arguments: bytes) -> Result:
    """Decode short stretches and look at every frame of them that others are made from."""
    wanted = msgspec.msgpack.decode(arguments, type=Between)
    looks = Looks()
    with _picture(source) as (container, stream):
        stream.codec_context.skip_frame = "NONREF"
        for first, last in wanted.stretches:
            stream.codec_context.flush_buffers()
            for frame in _decode(stream, _from_keyframe(container, stream, first, last)):
                if frame.pts is not None and first <= frame.pts <= last:
                    looks.add(frame)
    return Result(arrays=looks.arrays())


def all_looks_inside(source: Source, arguments: bytes) -> Result:
    """Decode the whole picture and look at it so many times a second."""
    wanted = msgspec.msgpack.decode(arguments, type=SamplesWanted)
    looks = Looks()
    with _picture(source) as (container, stream):
        stream.codec_context.skip_frame = "NONREF"
        due_s = float("-inf")
        for frame in _decode(stream, (p for p in container.demux(stream) if p.size)):
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
def _picture(
    source: Source, more: Mapping[str, str] = MappingProxyType({})
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file's picture, to be decoded ROUGHLY and with more of the decoder's options."""
    with open_media(source, VIDEO_CONTAINERS, QUICK) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaRefused("no_picture", "the file has no picture stream")
        stream.codec_context.options = {**ROUGHLY, **more}
        yield container, stream


def _chosen(
    container: InputContainer, stream: VideoStream, ticks: Sequence[int]
) -> Iterator[VideoPacket]:
    """Yield the packets shown at these ticks, as they come; one that a seek misses is left out."""
    jump = round(SEEK_S / float(stream.time_base or 1))
    at: int | None = None
    packets: Iterator[VideoPacket] = iter(())
    left = set(ticks)
    for tick in sorted(left):
        if tick not in left:  # stored before one that is shown before it
            continue
        if at is None or tick - at > jump:
            container.seek(tick, stream=stream)
            packets = container.demux(stream)
        for packet in packets:
            at = packet.pts
            if at is not None and at in left:
                left.remove(at)
                yield packet
            if tick not in left or (at is not None and at > tick + jump):
                break


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


def _decode_alone(stream: VideoStream, packet: VideoPacket) -> Iterator[VideoFrame]:
    """Decode one packet without those before it; nothing where it is damaged."""
    stream.codec_context.flush_buffers()
    yield from _decode(stream, (packet,))


def _decode(stream: VideoStream, packets: Iterable[VideoPacket]) -> Iterator[VideoFrame]:
    """Decode packets to the last frame; a damaged packet costs its own frames only."""
    for packet in packets:
        with damage_forgiven():
            yield from packet.decode()
    with damage_forgiven():
        yield from stream.codec_context.decode(None)
