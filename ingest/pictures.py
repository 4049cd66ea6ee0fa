"""Decoded pictures to pixels, and images whole: runs inside the sandbox."""

from typing import cast

import msgspec
import numpy as np
from av.codec.context import CodecContext
from av.packet import Packet
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import Interpolation

from ensembles.arrays import UInt8Array
from ensembles.contracts import MAX_IMAGE_PX
from gateway.errors import MediaLimitExceeded, MediaRefused
from ingest.calls import Result, Source
from ingest.decode import ImageWanted
from ingest.image import orient, read_head

SHRUNK = 1.5  # times: edges of blocks in a keyframe are then not seen any more
LANES_PX = 40_000_000  # of the pictures of decoders side by side: each holds several of them


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


def lanes_within(width: int, height: int, most: int) -> int:
    """Return how many decoders of so large pictures may work side by side, of `most`."""
    return max(1, min(most, LANES_PX // max(1, width * height)))


def is_shrunk(context: VideoCodecContext, short_side_px: int) -> bool:
    """Say whether pictures lose a third of their width at least, where they are shrunk to this."""
    return min(context.width, context.height) >= SHRUNK * short_side_px


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
