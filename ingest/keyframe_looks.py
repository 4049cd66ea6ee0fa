"""Looks at chosen pictures of a file, its parts side by side: runs inside the sandbox.

A part of the pictures, in the order of time, has a thread and a decoder of its own. Frames that may
be sampled are kept on the way, as `ingest.frames` would decode them, so that they need not be
decoded again.
"""

import gc
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import cast

import msgspec
import numpy as np
from av.container import InputContainer
from av.sidedata.motionvectors import MotionVectors
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ensembles.arrays import UInt8Array
from ingest.calls import Result, Source
from ingest.container import VideoPacket, pixel_aspect
from ingest.looks import Looks, decode, picture
from ingest.media import Int64Array
from ingest.pictures import is_shrunk, shrunk_size, to_pixels
from ingest.webp import Pictures, PicturesWanted, joined_pictures

SEEK_S = 1.0  # a gap that is jumped over instead of read
WITH_MOTION = {"flags2": "+export_mvs+showall"}  # tell motion, give pictures of broken sequences
PART_PICTURES = 6  # for each part at least …
MAX_PARTS = 4  # … of which there are so many at most: whatever the machine, for the same results


class KeyframesWanted(msgspec.Struct, frozen=True):
    """The arguments of `keyframe_looks`: presentation times, in ticks."""

    ticks: tuple[int, ...]  # of keyframes that are looked at, in the order of time
    hinted: tuple[int, ...] = ()  # of other packets, to be told how much of them is predicted
    pictures: PicturesWanted | None = None
    most_parts: int = MAX_PARTS  # fewer for large pictures, of which each decoder holds several
    frames: tuple[int, ...] = ()  # of those looked at, which are kept …
    short_side_px: int = 0  # … shrunk so that their short side is at most this


@dataclass(frozen=True)
class _Part:
    """What was seen of a part."""

    looks: Looks = field(default_factory=Looks)
    predicted: dict[int, float] = field(default_factory=dict)  # share of each hinted packet
    frames: dict[int, UInt8Array] = field(default_factory=dict)  # by tick
    pictures: Pictures | None = None


def keyframe_looks_inside(source: Source, arguments: bytes) -> Result:
    """Decode keyframes and hinted packets, each alone; take pictures of some.

    Without the pictures that it refers to a packet still tells which parts it takes from them.

    Returns:
        The looks' arrays; the share of each hinted packet's picture that is predicted, 0…1, and
        1 where it cannot be decoded; the ticks of the frames that are kept, and their pixels; then,
        where pictures are wanted, the pictures' arrays and their size.
    """
    wanted = msgspec.msgpack.decode(arguments, type=KeyframesWanted)
    parts = parts_of(wanted)
    with ThreadPoolExecutor(len(parts)) as threads:
        seen = tuple(threads.map(lambda part: _look(source, part), parts))
    looks = Looks()
    for part in seen:
        looks.extend(part.looks)
    predicted = dict(chain.from_iterable(part.predicted.items() for part in seen))
    shares = np.array([predicted.get(tick, 1.0) for tick in wanted.hinted], np.float32)
    arrays = (*looks.arrays(), shares, *_kept([part.frames for part in seen]))
    pictures = [part.pictures for part in seen if part.pictures is not None]
    if not pictures:
        return Result(arrays=arrays)
    size = max(one.size for one in pictures)
    return Result(size, (*arrays, *joined_pictures(pictures)))


def parts_of(wanted: KeyframesWanted) -> list[KeyframesWanted]:
    """Part what is wanted by time."""
    pictures = len(wanted.ticks) + len(wanted.hinted)
    count = max(1, min(wanted.most_parts, len(wanted.ticks), pictures // PART_PICTURES))
    ticks, hinted = np.array(wanted.ticks, np.int64), np.array(wanted.hinted, np.int64)
    edges = [0, *(len(piece) for piece in np.array_split(ticks, count))]
    bounds = np.cumsum(edges).tolist()
    at = np.searchsorted(ticks[bounds[1:-1]], hinted, side="right")
    return [
        msgspec.structs.replace(
            wanted,
            ticks=tuple(ticks[begin:end].tolist()),
            hinted=tuple(hinted[at == number].tolist()),
        )
        for number, (begin, end) in enumerate(pairwise(bounds))
    ]


def _look(source: Source, wanted: KeyframesWanted) -> _Part:
    """Look at one part."""
    keyframes, kept = set(wanted.ticks), set(wanted.frames)
    with picture(source, WITH_MOTION if wanted.hinted else {}) as (container, stream):
        part = _Part(pictures=Pictures(wanted.pictures, stream) if wanted.pictures else None)
        if not is_shrunk(stream.codec_context, wanted.short_side_px):
            kept.clear()  # their blocks would be seen: see ROUGHLY
        for packet in _chosen(container, stream, (*wanted.ticks, *wanted.hinted)):
            if packet.pts not in keyframes:
                part.predicted[cast(int, packet.pts)] = _predicted_share(stream, packet)
                continue
            for frame in _decode_alone(stream, packet):
                look = part.looks.add(frame)
                if part.pictures is not None:
                    part.pictures.offer(frame, look)
                if frame.pts in kept:
                    shape = shrunk_size(frame, wanted.short_side_px, pixel_aspect(stream))
                    part.frames[frame.pts] = to_pixels(frame, shape)
    return part


def _kept(parts: Sequence[Mapping[int, UInt8Array]]) -> tuple[Int64Array, UInt8Array]:
    """Return the ticks (n,) and pixels (n, height, width, 3) of frames, of the first one's size."""
    frames = dict(chain.from_iterable(part.items() for part in parts))
    shape = next((pixels.shape for pixels in frames.values()), (0, 0, 3))
    alike = {tick: pixels for tick, pixels in frames.items() if pixels.shape == shape}
    ticks = np.array(list(alike), np.int64)
    return ticks, np.array(list(alike.values()), np.uint8).reshape(len(alike), *shape)


def _predicted_share(stream: VideoStream, packet: VideoPacket) -> float:
    """Return the share of a packet's picture that is predicted; 1 where it cannot be decoded."""
    shares = [_share_from_others(frame) for frame in _decode_alone(stream, packet)]
    gc.collect()  # a frame and its side data hold each other, megabytes that count as two objects
    return shares[-1] if shares else 1.0


def _share_from_others(frame: VideoFrame) -> float:
    """Return the share of a picture that is taken from others, as its motion vectors tell."""
    vectors: MotionVectors | None = frame.side_data.get("MOTION_VECTORS")
    if vectors is None:
        return 0.0
    blocks = vectors.to_ndarray()
    area = float((blocks["w"].astype(np.int64) * blocks["h"]).sum())
    return min(1.0, area / (frame.width * frame.height))


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


def _decode_alone(stream: VideoStream, packet: VideoPacket) -> Iterator[VideoFrame]:
    """Decode one packet without those before it; nothing where it is damaged."""
    stream.codec_context.flush_buffers()
    yield from decode(stream, (packet,))
