"""Reads the head of an image before a decoder sees it: kind, size and EXIF orientation."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from ensembles.arrays import UInt8Array
from gateway.errors import MediaRefused

Kind = Literal["mjpeg", "png", "webp"]  # FFmpeg's names of the decoders

EXIF_ORIENTATION = 0x0112
EXIF_HEADER = b"Exif\0\0"
MAX_EXIF_ENTRIES = 512
# JPEG start-of-frame markers: all of C0…CF but DHT, JPG and DAC.
JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
JPEG_SCAN_MARKER = 0xDA
JPEG_APP1_MARKER = 0xE1


@dataclass(frozen=True)
class ImageHead:
    """What an image says of itself."""

    kind: Kind
    width: int
    height: int
    orientation: int  # EXIF: 1…8, 1 is upright


def read_head(data: bytes) -> ImageHead:
    """Read an image's head; raises `MediaRefused`: `not_media` or `truncated`."""
    try:
        if data[:3] == b"\xff\xd8\xff":
            return _jpeg_head(data)
        if data[:8] == b"\x89PNG\r\n\x1a\n":
            return _png_head(data)
        if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
            return _webp_head(data)
    except IndexError as error:
        raise MediaRefused("truncated", "the image ends within its head") from error
    raise MediaRefused("not_media", "the image is neither JPEG, PNG nor WebP")


def orient(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Turn and mirror pixels of shape (height, width, 3) as an EXIF orientation says."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _number(data: bytes, at: int, length: int, order: Literal["little", "big"]) -> int:
    """Read an unsigned integer; raises `IndexError` where the data ends before it."""
    if at < 0 or at + length > len(data):
        raise IndexError(at)
    return int.from_bytes(data[at : at + length], order)


def _jpeg_head(data: bytes) -> ImageHead:
    orientation = 1
    for marker, start, end in _jpeg_segments(data):
        if marker == JPEG_APP1_MARKER and data[start : start + 6] == EXIF_HEADER:
            orientation = _orientation(data[start + 6 : end])
        if marker in JPEG_FRAME_MARKERS:
            height = _number(data, start + 1, 2, "big")
            width = _number(data, start + 3, 2, "big")
            return ImageHead("mjpeg", width, height, orientation)
    raise MediaRefused("truncated", "the JPEG has no frame before its first scan")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment before the first scan."""
    at = 2
    while True:
        while _number(data, at, 2, "big") == 0xFFFF:  # fill bytes
            at += 1
        marker = _number(data, at + 1, 1, "big")
        length = _number(data, at + 2, 2, "big")
        if data[at] != 0xFF or length < 2 or marker == JPEG_SCAN_MARKER:
            return
        yield marker, at + 4, at + 2 + length
        at += 2 + length


def _png_head(data: bytes) -> ImageHead:
    width, height = _number(data, 16, 4, "big"), _number(data, 20, 4, "big")
    at, orientation = 8, 1
    while data[at + 4 : at + 8] not in (b"IDAT", b""):
        length = _number(data, at, 4, "big")
        if data[at + 4 : at + 8] == b"eXIf":
            orientation = _orientation(data[at + 8 : at + 8 + length])
        at += 12 + length
    return ImageHead("png", width, height, orientation)


def _webp_head(data: bytes) -> ImageHead:
    kind = data[12:16]
    orientation = 1
    if kind == b"VP8X":
        width = 1 + _number(data, 24, 3, "little")
        height = 1 + _number(data, 27, 3, "little")
        orientation = _webp_orientation(data)
    elif kind == b"VP8L":
        bits = _number(data, 21, 4, "little")
        width, height = 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    else:
        width = _number(data, 26, 2, "little") & 0x3FFF
        height = _number(data, 28, 2, "little") & 0x3FFF
    return ImageHead("webp", width, height, orientation)


def _webp_orientation(data: bytes) -> int:
    at = 12
    while at + 8 <= len(data):
        length = _number(data, at + 4, 4, "little")
        if data[at : at + 4] == b"EXIF":
            return _orientation(data[at + 8 : at + 8 + length].removeprefix(EXIF_HEADER))
        at += 8 + length + length % 2
        if length == 0 and data[at - 8 : at - 4] == b"\0\0\0\0":  # padding after the image
            break
    return 1


def _orientation(tiff: bytes) -> int:
    """Return the orientation of an EXIF block; 1 where it has none or is damaged."""
    order: Literal["little", "big"] = "little" if tiff[:2] == b"II" else "big"
    try:
        at = _number(tiff, 4, 4, order)
        for entry in range(min(_number(tiff, at, 2, order), MAX_EXIF_ENTRIES)):
            field = at + 2 + 12 * entry
            if _number(tiff, field, 2, order) == EXIF_ORIENTATION:
                value = _number(tiff, field + 8, 2, order)
                return value if 1 <= value <= 8 else 1
    except IndexError:
        return 1
    return 1
