"""Pixels and sound out of encoded bytes; nothing is decoded here, but in the sandbox.

What runs there is in `ingest.pictures` and `ingest.sounds`.
"""

from collections.abc import Sequence
from typing import cast

import msgspec
import numpy as np

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.contracts import (
    ABSENT,
    AUDIO_WINDOW_SAMPLES,
    MAX_CHUNK_AUDIO_WINDOWS,
    MAX_CHUNK_FRAMES,
)
from gateway.errors import InvalidRequest
from ingest.sandbox import Limits, run_limited

SHORT_SIDE_PX = 448  # of decoded pixels: twice what CLIP's encoders read, so resizing stays sharp

CHUNK_LIMITS = Limits(cpu_s=60.0, wall_s=115.0)  # the worker waits 120 s for a chunk
QUERY_LIMITS = Limits(cpu_s=5.0, wall_s=10.0, memory_bytes=1024**3, reply_bytes=256 * 1024**2)


class FramesWanted(msgspec.Struct, frozen=True):
    """The arguments of `decode_frames`."""

    indices: tuple[int, ...]
    short_side_px: int


class ImageWanted(msgspec.Struct, frozen=True):
    """The arguments of `decode_image`."""

    short_side_px: int


class WindowsWanted(msgspec.Struct, frozen=True):
    """The arguments of `decode_windows`."""

    starts_s: tuple[float, ...]


def decode_frames(
    chunk: bytes | memoryview, indices: Sequence[int], *, short_side_px: int = SHORT_SIDE_PX
) -> UInt8Array:
    """Decode frames of a chunk, upright and with square pixels.

    Args:
        chunk: an encoded MP4, MOV, Matroska or WebM.
        indices: (n,) positions among the chunk's frames in display order, or ABSENT for black.
        short_side_px: frames are shrunk so that their short side is at most this.

    Returns:
        RGB, shape (n, height, width, 3).

    Raises:
        MediaRefused: the chunk cannot be decoded.
        MediaLimitExceeded: a limit was hit.
        InvalidRequest: an index is out of range, or there are too many.
    """
    if len(indices) > MAX_CHUNK_FRAMES:
        raise InvalidRequest(f"{len(indices)} frames of a chunk, {MAX_CHUNK_FRAMES} are allowed")
    wanted = FramesWanted(tuple(map(int, indices)), short_side_px)
    if all(index == ABSENT for index in wanted.indices):
        return np.zeros((len(indices), short_side_px, short_side_px, 3), np.uint8)
    reply = run_limited("decode_frames", chunk, wanted, CHUNK_LIMITS)
    return cast(UInt8Array, reply.arrays[0])


def decode_windows(chunk: bytes | memoryview, starts_s: Sequence[float]) -> FloatArray:
    """Decode windows of a chunk's sound.

    Args:
        chunk: an encoded file.
        starts_s: (m,) starts on the chunk's own clock, seconds, or ABSENT for silence.

    Returns:
        16 kHz mono, -1…1, shape (m, AUDIO_WINDOW_SAMPLES); zeros where nothing was recorded.

    Raises:
        MediaRefused: the chunk cannot be decoded.
        MediaLimitExceeded: a limit was hit.
        InvalidRequest: there are too many windows.
    """
    if len(starts_s) > MAX_CHUNK_AUDIO_WINDOWS:
        message = f"{len(starts_s)} windows of a chunk, {MAX_CHUNK_AUDIO_WINDOWS} are allowed"
        raise InvalidRequest(message)
    wanted = WindowsWanted(tuple(map(float, starts_s)))
    if all(start_s == ABSENT for start_s in wanted.starts_s):
        return np.zeros((len(starts_s), AUDIO_WINDOW_SAMPLES), np.float32)
    reply = run_limited("decode_windows", chunk, wanted, CHUNK_LIMITS)
    return cast(FloatArray, reply.arrays[0])


def decode_image(data: bytes | memoryview, *, short_side_px: int = SHORT_SIDE_PX) -> UInt8Array:
    """Decode a JPEG, PNG or WebP, turned as its EXIF says, transparency over white.

    Args:
        data: the encoded image; zeros after its end are ignored.
        short_side_px: it is shrunk so that its short side is at most this.

    Returns:
        RGB, shape (height, width, 3).

    Raises:
        MediaRefused: it is none of these, or broken.
        MediaLimitExceeded: it has over MAX_IMAGE_PX pixels, which its head is asked for first.
    """
    reply = run_limited("decode_image", data, ImageWanted(short_side_px), QUERY_LIMITS)
    return cast(UInt8Array, reply.arrays[0])


def decode_sound(data: bytes | memoryview) -> FloatArray:
    """Decode the sound of an audio or video file.

    Returns:
        16 kHz mono, -1…1, shape (samples,), at most MAX_AUDIO_SAMPLES.

    Raises:
        MediaRefused: it has no sound that can be decoded, or is longer (`too_long`).
        MediaLimitExceeded: a limit was hit.
    """
    return cast(FloatArray, run_limited("decode_sound", data, None, QUERY_LIMITS).arrays[0])
