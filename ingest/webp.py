"""Small WebP pictures of decoded frames: runs inside the sandbox."""

from collections.abc import Sequence
from fractions import Fraction
from typing import cast

import msgspec
import numpy as np
from av.codec.context import CodecContext
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ensembles.arrays import UInt8Array
from ingest.container import pixel_aspect
from ingest.media import Int64Array
from ingest.pictures import shrunk_size, to_pixels

ENCODER = "libwebp"
QUALITY = 60  # of 100
EFFORT = 0  # of 6; 4 makes pictures a third smaller and takes three times as long
MAX_PICTURE_BYTES = 64 * 1024  # of one; a larger one is left out
DIFFERENT_BITS = 10  # of a perceptual hash: another picture, worth one of its own
MORE_SHARE = 0.5  # more pictures than one a spacing, for what looks different …
MORE_FIRST = 4  # … and so many at once


class PicturesWanted(msgspec.Struct, frozen=True):
    """How many pictures of which size."""

    side_px: int  # of the longer side
    spacing_s: float  # one in this time; what looks different may come sooner


class Pictures:
    """Collects pictures of the frames that come by, in the order of time.

    Args:
        wanted: how many, and how large.
        stream: what the frames are of.
    """

    def __init__(self, wanted: PicturesWanted, stream: VideoStream) -> None:
        self._wanted = wanted
        self._stream = stream
        self._tick_s = float(stream.time_base or 1)
        self._encoder: VideoCodecContext | None = None
        self._first_s = 0.0
        self._last_s = float("-inf")
        self._last_hash: UInt8Array | None = None
        self._ticks: list[int] = []
        self._data: list[bytes] = []
        self.size = (0, 0)  # width and height, in pixels

    def offer(self, frame: VideoFrame, look: UInt8Array) -> None:
        """Take a picture of a frame where one is due.

        Args:
            frame: decoded, with its time.
            look: its perceptual hash, (8,) bytes.
        """
        tick = cast(int, frame.pts)
        at_s = tick * self._tick_s
        if not self._is_due(at_s, look):
            return
        self._last_s, self._last_hash = at_s, look
        data = self._encoded(frame)
        if data is not None and len(data) <= MAX_PICTURE_BYTES:
            self._ticks.append(tick)
            self._data.append(data)

    def arrays(self) -> tuple[Int64Array, Int64Array, UInt8Array]:
        """Return the pictures' ticks (n,), their sizes in bytes (n,), and all their bytes."""
        sizes = np.array([len(data) for data in self._data], np.int64)
        joined = np.frombuffer(b"".join(self._data), np.uint8)
        return np.array(self._ticks, np.int64), sizes, joined

    def _is_due(self, at_s: float, look: UInt8Array) -> bool:
        if self._last_hash is None:
            self._first_s = at_s
            return True
        if at_s - self._last_s >= self._wanted.spacing_s:
            return True
        differ = int(np.unpackbits(self._last_hash ^ look).sum())
        spacings = (at_s - self._first_s) / self._wanted.spacing_s
        allowed = MORE_FIRST + (1 + MORE_SHARE) * spacings
        return differ > DIFFERENT_BITS and len(self._ticks) < allowed

    def _encoded(self, frame: VideoFrame) -> bytes | None:
        """Return a frame as WebP, upright and with square pixels; None where that fails."""
        try:
            small = self._small(frame)
            if self._encoder is None:
                self._encoder = _encoder(small.width, small.height)
                self.size = (small.width, small.height)
            if (small.width, small.height) != self.size:  # the picture changes its size midway
                small = small.reformat(*self.size)
            shown, small.pts = small.pts, len(self._ticks)
            data = b"".join(map(bytes, self._encoder.encode(small)))
            small.pts = shown  # a frame that needs no shrinking is the caller's own
            return data
        except FFmpegError:  # no picture is worth a video
            return None

    def _small(self, frame: VideoFrame) -> VideoFrame:
        longer, shorter = max(frame.width, frame.height), min(frame.width, frame.height)
        short_side_px = max(1, round(self._wanted.side_px * shorter / longer))
        shape = shrunk_size(frame, short_side_px, pixel_aspect(self._stream))
        if not frame.rotation:
            return frame.reformat(*shape, "yuv420p", threads=1)
        upright = np.ascontiguousarray(to_pixels(frame, shape))
        return VideoFrame.from_ndarray(upright, "rgb24").reformat(format="yuv420p", threads=1)


def joined_pictures(parts: Sequence[Pictures]) -> tuple[Int64Array, Int64Array, UInt8Array]:
    """Return the arrays of parts, in the order of time, as one."""
    ticks, sizes, data = zip(*(part.arrays() for part in parts), strict=True)
    return np.concatenate(ticks), np.concatenate(sizes), np.concatenate(data)


def _encoder(width: int, height: int) -> VideoCodecContext:
    encoder = cast(VideoCodecContext, CodecContext.create(ENCODER, "w"))
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base = Fraction(1, 25)  # asked for, and without a meaning here
    encoder.thread_count = 1
    encoder.options = {"quality": str(QUALITY), "compression_level": str(EFFORT)}
    return encoder
