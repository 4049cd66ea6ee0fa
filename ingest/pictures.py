"""Frames and images, decoded inside the sandbox.

Frames come from a keyframe onwards, so a chunk holds stretches of packets that begin with one; the
decoder is emptied between them, and frames are told apart by their presentation time.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

import msgspec
import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation
from av.video.stream import VideoStream

from ensembles.arrays import UInt8Array
from ensembles.contracts import ABSENT, MAX_IMAGE_PX
from gateway.errors import InvalidRequest, MediaLimitExceeded, MediaRefused
from ingest.calls import Result, Source
from ingest.container import (
    QUICK,
    VIDEO_CONTAINERS,
    VideoPacket,
    damage_forgiven,
    open_media,
    pixel_aspect,
    video_stream,
)
from ingest.decode import FramesWanted, ImageWanted
from ingest.image import orient, read_head
from ingest.media import decoding_runs

SKIPPING = ("h264", "hevc")  # decoders that can skip a frame between others
SHRUNK = 1.5  # times: edges of blocks in a keyframe are then not seen any more


def frames_inside(source: Source, arguments: bytes) -> Result:
    """Decode the frames wanted of a chunk: `decode_frames`."""
    wanted = msgspec.msgpack.decode(arguments, type=FramesWanted)
    with open_media(source, VIDEO_CONTAINERS, QUICK) as container:
        stream = video_stream(container)
        if stream is None:
            raise MediaRefused("no_picture", "the chunk has no picture stream")
        packets = [p for p in container.demux(stream) if p.size and p.pts is not None]
        shown = sorted({cast(int, packet.pts) for packet in packets})
        ticks = [_tick(shown, index) for index in wanted.indices]
        pixels = _pixels_at(stream, packets, set(ticks) - {ABSENT}, wanted.short_side_px)
    blank = np.zeros_like(next(iter(pixels.values())))
    return Result(arrays=(np.stack([pixels.get(tick, blank) for tick in ticks]),))


def _tick(shown: Sequence[int], index: int) -> int:
    """Return the presentation time of the frame at a display index."""
    if index == ABSENT:
        return ABSENT
    if not 0 <= index < len(shown):
        raise InvalidRequest(f"frame {index} of a chunk that has {len(shown)} frames")
    return shown[index]


def _pixels_at(
    stream: VideoStream, packets: Sequence[VideoPacket], ticks: set[int], short_side_px: int
) -> dict[int, UInt8Array]:
    """Decode the frames at these times, each from the keyframe before it; all have one shape.

    A frame that the decoder does not give is replaced by the last one before it.
    """
    found: dict[int, UInt8Array] = {}
    missing: list[int] = []
    shape: tuple[int, int] | None = None
    pts = np.array([packet.pts for packet in packets], np.int64)
    keyframes = np.array([packet.is_keyframe for packet in packets], np.bool_)
    runs = decoding_runs(pts, keyframes, np.flatnonzero(np.isin(pts, list(ticks))))
    if all(start == end for start, end in runs) and _is_shrunk(stream, short_side_px):
        stream.codec_context.options = {"skip_loop_filter": "all"}  # its traces shrink away
    for start, end in runs:
        run = packets[start : end + 1]
        last: VideoFrame | None = None
        here = {cast(int, packet.pts) for packet in run} & ticks
        for frame in decode_run(stream, run, here):
            shape = shape or shrunk_size(frame, short_side_px, pixel_aspect(stream))
            if frame.pts in here:
                found[frame.pts] = to_pixels(frame, shape)
            last = frame
        for tick in here - found.keys():
            if last is not None and shape is not None:
                found[tick] = to_pixels(last, shape)
            else:
                missing.append(tick)
    if not found:
        raise MediaRefused("undecodable", "none of the frames wanted can be decoded")
    for tick in missing:
        found[tick] = found[min(found, key=lambda known: abs(known - tick))]
    return found


def _is_shrunk(stream: VideoStream, short_side_px: int) -> bool:
    """Say whether pictures lose a third of their width at least."""
    context = stream.codec_context
    return min(context.width, context.height) >= SHRUNK * short_side_px


def decode_run(
    stream: VideoStream, run: Iterable[VideoPacket], ticks: set[int]
) -> Iterator[VideoFrame]:
    """Decode one stretch of packets from its keyframe; frames nothing needs are skipped."""
    context = stream.codec_context
    context.flush_buffers()
    for packet in run:
        if context.name in SKIPPING:
            context.skip_frame = "DEFAULT" if packet.pts in ticks else "NONREF"
        with damage_forgiven():
            yield from packet.decode()
    with damage_forgiven():
        yield from context.decode(None)


def shrunk_size(frame: VideoFrame, short_side_px: int, aspect: float = 1.0) -> tuple[int, int]:
    """Return the width and height of a frame before its rotation, with square pixels, shrunk.

    Args:
        frame: a decoded picture.
        short_side_px: the short side is at most this.
        aspect: width of a pixel over its height.

    Raises:
        MediaLimitExceeded: the picture has over MAX_IMAGE_PX pixels.
    """
    check_pixels(frame.width, frame.height)
    width, height = frame.width * aspect, float(frame.height)
    scale = min(1.0, short_side_px / min(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def check_pixels(width: int, height: int) -> None:
    """Refuse a picture that is too large; raises `MediaLimitExceeded`."""
    if width * height > MAX_IMAGE_PX:
        message = f"a picture of {width}×{height} pixels: {MAX_IMAGE_PX} in all are allowed"
        raise MediaLimitExceeded("pixels", message)


def to_pixels(frame: VideoFrame, shape: tuple[int, int]) -> UInt8Array:
    """Return a frame as upright RGB, shape (height, width, 3), shrunk to (width, height)."""
    width, height = shape
    small = frame.reformat(width, height, "rgb24", interpolation=Interpolation.AREA, threads=1)
    pixels = cast(UInt8Array, small.to_ndarray())
    return np.rot90(pixels, frame.rotation // 90) if frame.rotation else pixels


def image_inside(source: Source, arguments: bytes) -> Result:
    """Decode an image: `decode_image`."""
    wanted = msgspec.msgpack.decode(arguments, type=ImageWanted)
    data = source.read()
    head = read_head(data)
    check_pixels(head.width, head.height)
    context = CodecContext.create(head.kind, "r")
    context.options = {"max_pixels": str(MAX_IMAGE_PX)}
    frames = context.decode(Packet(data)) or context.decode(None)
    if not frames:
        raise MediaRefused("undecodable", "the image holds no picture")
    frame = frames[0]
    width, height = shrunk_size(frame, wanted.short_side_px)
    small = frame.reformat(width, height, "rgba", interpolation=Interpolation.AREA, threads=1)
    pixels = _over_white(cast(UInt8Array, small.to_ndarray()))
    return Result(arrays=(orient(pixels, head.orientation),))


def _over_white(rgba: UInt8Array) -> UInt8Array:
    """Lay a transparent picture over white; (height, width, 4) becomes (height, width, 3)."""
    colours, alpha = rgba[..., :3], rgba[..., 3:]
    if alpha.min() == 255:
        return colours
    opacity = alpha.astype(np.float32) / 255
    mixed = colours * opacity + 255 * (1 - opacity)
    return np.asarray(mixed + 0.5, np.uint8)
