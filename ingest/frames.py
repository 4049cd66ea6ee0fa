"""The frames of a chunk, decoded inside the sandbox, some stretches side by side.

Frames come from a keyframe onwards, so a chunk holds stretches of packets that begin with one. The
stretches are dealt to lanes, threads with a decoder each; the decoder is emptied between stretches,
and frames are told apart by their presentation time. Which lane decodes a stretch changes nothing.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeAlias, cast

import msgspec
import numpy as np
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ensembles.arrays import UInt8Array
from ensembles.contracts import ABSENT
from gateway.errors import InvalidRequest, MediaRefused
from ingest.calls import Result, Source
from ingest.container import (
    VideoPacket,
    damage_forgiven,
    open_picture,
    pixel_aspect,
)
from ingest.decode import FramesWanted
from ingest.media import decoding_runs
from ingest.pictures import is_shrunk, lanes_within, shrunk_size, to_pixels

CHUNK = "chunk"  # as messages call the source
MAX_LANES = 4  # of one chunk, where the machine has as many processors
SKIPPING = ("h264", "hevc")  # decoders that can skip a frame between others

Run: TypeAlias = tuple[int, int]  # first and last position of a stretch of packets


@dataclass(frozen=True)
class Decoded:
    """What came of some stretches."""

    pixels: dict[int, UInt8Array] = field(default_factory=dict)  # by tick
    missing: list[int] = field(default_factory=list)  # ticks of stretches that gave nothing

    def shapes(self) -> set[tuple[int, ...]]:
        """Return the shapes of the pixels."""
        return {pixels.shape for pixels in self.pixels.values()}


def frames_inside(source: Source, arguments: bytes) -> Result:
    """Decode the frames wanted of a chunk: `ingest.decode.decode_frames`."""
    wanted = msgspec.msgpack.decode(arguments, type=FramesWanted)
    with open_picture(source, CHUNK) as (container, stream):
        packets = [p for p in container.demux(stream) if p.size and p.pts is not None]
        shown = sorted({cast(int, packet.pts) for packet in packets})
        ticks = [_tick(shown, index) for index in wanted.indices]
        runs = _runs(packets, set(ticks))
        shrunk = is_shrunk(stream.codec_context, wanted.short_side_px)
        roughly = shrunk and all(first == last for first, last in runs)
        lane = _Lane(source, packets, set(ticks), wanted.short_side_px, roughly)
        found = _side_by_side(lane, stream, runs)
        if len(found.shapes()) > 1:  # the picture changes its size: all are given the first one's
            found = lane.decode(stream, runs)
    pixels = _filled(found)
    blank = np.zeros_like(next(iter(pixels.values())))
    return Result(arrays=(np.stack([pixels.get(tick, blank) for tick in ticks]),))


def dealt(runs: Sequence[Run], sizes: Sequence[int], lanes: int) -> list[list[Run]]:
    """Deal stretches to lanes, the largest first, each to the lane that has the least.

    Args:
        runs: first and last positions of packets, ascending.
        sizes: of all packets, bytes: about what decoding them takes.
        lanes: there are at most so many.

    Returns:
        One lane at least, further ones with at least one stretch; each in ascending order.
    """
    weight = {run: sum(sizes[run[0] : run[1] + 1]) for run in runs}
    hands: list[list[Run]] = [[] for _ in range(max(1, min(lanes, len(runs))))]
    for run in sorted(runs, key=lambda run: -weight[run]):
        min(hands, key=lambda hand: sum(weight[one] for one in hand)).append(run)
    return [sorted(hand) for hand in hands]


# ---- a lane -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Lane:
    """Decodes stretches of a chunk."""

    source: Source
    packets: Sequence[VideoPacket]
    ticks: set[int]  # of all frames wanted
    short_side_px: int
    roughly: bool  # without the filter that smooths blocks: its traces shrink away

    def decode_apart(self, runs: Sequence[Run]) -> Decoded:
        """Decode the frames wanted of some stretches by a decoder of its own."""
        with open_picture(self.source, CHUNK) as (_, stream):
            return self.decode(stream, runs)

    def decode(self, stream: VideoStream, runs: Sequence[Run]) -> Decoded:
        """Decode the frames wanted of some stretches; all have one shape.

        A frame that the decoder does not give is replaced by the last one before it.
        """
        decoded = Decoded()
        shape: tuple[int, int] | None = None
        if self.roughly:
            stream.codec_context.options = {"skip_loop_filter": "all"}
        for first, last in runs:
            run = self.packets[first : last + 1]
            here = {cast(int, packet.pts) for packet in run} & self.ticks
            frame: VideoFrame | None = None
            for frame in _decode_run(stream.codec_context, run, here):
                shape = shape or shrunk_size(frame, self.short_side_px, pixel_aspect(stream))
                if frame.pts in here:
                    decoded.pixels[frame.pts] = to_pixels(frame, shape)
            for tick in here - decoded.pixels.keys():
                if frame is not None and shape is not None:
                    decoded.pixels[tick] = to_pixels(frame, shape)
                else:
                    decoded.missing.append(tick)
        return decoded


def _side_by_side(lane: _Lane, stream: VideoStream, runs: Sequence[Run]) -> Decoded:
    """Decode the first lane's stretches here, those of the others in threads."""
    context, sizes = stream.codec_context, [packet.size for packet in lane.packets]
    most = lanes_within(context.width, context.height, _lanes_at_most())
    here, *others = dealt(runs, sizes, most)
    with ThreadPoolExecutor(max(1, len(others))) as threads:
        apart = threads.map(lane.decode_apart, others)
        found = lane.decode(stream, here)
        for decoded in apart:
            found.pixels.update(decoded.pixels)
            found.missing.extend(decoded.missing)
    return found


def _filled(found: Decoded) -> dict[int, UInt8Array]:
    """Give the frames of stretches that gave nothing the pixels of those next to them."""
    known = found.pixels
    if not known:
        raise MediaRefused("undecodable", "none of the frames wanted can be decoded")
    nearest = {tick: min(known, key=lambda at: abs(at - tick)) for tick in found.missing}
    return known | {tick: known[at] for tick, at in nearest.items()}


def _decode_run(
    context: VideoCodecContext, run: Iterable[VideoPacket], ticks: set[int]
) -> Iterator[VideoFrame]:
    """Decode one stretch of packets from its keyframe; frames nothing needs are skipped."""
    context.flush_buffers()
    for packet in run:
        if context.name in SKIPPING:
            context.skip_frame = "DEFAULT" if packet.pts in ticks else "NONREF"
        with damage_forgiven():
            yield from context.decode(packet)
    with damage_forgiven():
        yield from context.decode(None)


# ---- the chunk ----------------------------------------------------------------------------------


def _tick(shown: Sequence[int], index: int) -> int:
    """Return the presentation time of the frame at a display index."""
    if index == ABSENT:
        return ABSENT
    if not 0 <= index < len(shown):
        raise InvalidRequest(f"frame {index} of a chunk that has {len(shown)} frames")
    return shown[index]


def _runs(packets: Sequence[VideoPacket], ticks: set[int]) -> list[Run]:
    """Return the stretches that frames need."""
    pts = np.array([packet.pts for packet in packets], np.int64)
    keyframes = np.array([packet.is_keyframe for packet in packets], np.bool_)
    wanted = np.flatnonzero(np.isin(pts, list(ticks - {ABSENT})))
    return decoding_runs(pts, keyframes, wanted)


def _lanes_at_most() -> int:
    return min(MAX_LANES, len(os.sched_getaffinity(0)))
