"""The thumbnails of a video: one WebP a segment, all of them in one file beside the video.

One file, because a folder of a million videos with a picture a segment would be files without
end. Its head says which bytes are which segment's; segments may share a picture.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import msgspec

from gateway.errors import NotFound
from ingest.files import replacing
from ingest.media import NO_KEYFRAMES, Keyframes
from ingest.plan import Segment

THUMBNAILS_FILE = "thumbnails.pack"
SIDE_PX = 320  # of the longer side
MAX_PICTURES = 1_500  # of one video, more or less; a long one has them further apart

MAGIC = b"PIXTHMB1"
LENGTH_BYTES = 4  # of the head, little-endian
MAX_HEAD_BYTES = 8 * 1024**2


@dataclass(frozen=True)
class Thumbnails:
    """The picture of each segment."""

    keyframes: Keyframes
    chosen: tuple[int, ...]  # of each segment, which picture; empty where there are none


class Head(msgspec.Struct, frozen=True):
    """What a file of thumbnails says of itself."""

    width: int
    height: int
    places: tuple[tuple[int, int], ...]  # of each picture: offset after the head, and size
    segments: dict[str, int]  # id → which picture
    times_s: tuple[float, ...] = ()  # of each picture; files of before do not tell


# ---- pure ---------------------------------------------------------------------------------------


def spacing_s(duration_s: float, segment_s: float) -> float:
    """Return how far apart pictures are taken, for segments of this length."""
    return max(segment_s, duration_s / MAX_PICTURES)


def thumbnails_of(keyframes: Keyframes, segments: Sequence[Segment]) -> Thumbnails:
    """Choose each segment's picture: inside it next to its middle, else the last one before it."""
    if not keyframes.times_s:
        return Thumbnails(keyframes, ())
    chosen = tuple(_chosen(keyframes.times_s, s.start_s, s.end_s) for s in segments)
    return Thumbnails(keyframes, chosen)


def _chosen(times_s: Sequence[float], start_s: float, end_s: float) -> int:
    first, end = bisect_left(times_s, start_s), bisect_left(times_s, end_s)
    if first < end:
        middle_s = (start_s + end_s) / 2
        return min(range(first, end), key=lambda at: abs(times_s[at] - middle_s))
    return max(0, bisect_right(times_s, start_s) - 1)


def packed(thumbnails: Thumbnails, segment_ids: Sequence[str]) -> list[bytes]:
    """Return the pieces of the file, in order; segments of a deeper look may show any picture."""
    keyframes = thumbnails.keyframes
    sizes = [len(picture) for picture in keyframes.pictures]
    head = Head(
        width=keyframes.width,
        height=keyframes.height,
        places=tuple(zip(accumulate(sizes[:-1], initial=0), sizes, strict=True)),
        segments=dict(zip(segment_ids, thumbnails.chosen, strict=True)),
        times_s=keyframes.times_s,
    )
    told = msgspec.msgpack.encode(head)
    return [MAGIC, len(told).to_bytes(LENGTH_BYTES, "little"), told, *keyframes.pictures]


# ---- the file -----------------------------------------------------------------------------------


def write_thumbnails(path: Path, thumbnails: Thumbnails, segment_ids: Sequence[str]) -> None:
    """Write a video's thumbnails, whole or not at all; without pictures, remove the file.

    Args:
        path: the file, replaced.
        thumbnails: chosen for the segments.
        segment_ids: of the segments, in the same order.
    """
    if not thumbnails.chosen:
        path.unlink(missing_ok=True)
        return
    with replacing(path) as file:
        file.writelines(packed(thumbnails, segment_ids))


def read_head(path: Path) -> tuple[Head, int]:
    """Return the head of a file of thumbnails, and where the pictures begin.

    Raises:
        NotFound: there is no such file, or it is none.
    """
    try:
        with path.open("rb") as file:
            begin = file.read(len(MAGIC) + LENGTH_BYTES)
            length = int.from_bytes(begin[len(MAGIC) :], "little")
            if not begin.startswith(MAGIC) or length > MAX_HEAD_BYTES:
                raise NotFound("this video's thumbnails are damaged: pixserve reindex --analyse")
            return msgspec.msgpack.decode(file.read(length), type=Head), len(begin) + length
    except FileNotFoundError as error:
        raise NotFound("this video has no thumbnails") from error
    except msgspec.MsgspecError as error:
        raise NotFound("this video's thumbnails are damaged: pixserve reindex --analyse") from error


def read_keyframes(path: Path) -> Keyframes:
    """Return all pictures of a file with their times; none where it has no times, or is none."""
    try:
        head, begin = read_head(path)
        data = path.read_bytes()
    except (NotFound, OSError):
        return NO_KEYFRAMES
    if len(head.times_s) != len(head.places):
        return NO_KEYFRAMES
    pictures = tuple(data[begin + at : begin + at + size] for at, size in head.places)
    if [len(picture) for picture in pictures] != [size for _, size in head.places]:
        return NO_KEYFRAMES
    return Keyframes(head.times_s, pictures, head.width, head.height)


def read_thumbnail(path: Path, segment_id: str) -> bytes:
    """Return the WebP picture of a segment; raises `NotFound` where it has none."""
    head, begin = read_head(path)
    place = head.segments.get(segment_id)
    if place is None or not 0 <= place < len(head.places):
        raise NotFound(f"there is no thumbnail of a segment {segment_id}")
    offset, size = head.places[place]
    with path.open("rb") as file:
        file.seek(begin + offset)
        return file.read(size)
