"""Looks at chosen pictures of a file through the sandbox, the parts of a long one side by side."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import msgspec
import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import FloatArray
from ingest.looks import KeyframesWanted
from ingest.media import BoolArray, Int64Array
from ingest.replies import Reply
from ingest.sandbox import Limits, run_limited

LOOK_ARRAYS = 4  # of a reply; the predicted shares and those of pictures come after them
PART_PICTURES = 12  # for each call at least …
MAX_PARTS = 4  # … of which there are so many at most: whatever the machine, for the same results


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What `ingest.looks.keyframe_looks_inside` tells of all that was wanted."""

    looks: tuple[NDArray[np.generic], ...]  # ticks, hashes, colours, changes
    predicted: FloatArray  # of each hinted packet
    pictures: dict[int, bytes]  # by their ticks, in the order of time
    picture_size: tuple[int, int]  # width and height, in pixels


def look_in_parts(path: Path, wanted: KeyframesWanted, limits: Limits) -> Seen:
    """Look at keyframes and hinted packets of a file.

    Args:
        path: of the file.
        wanted: with its ticks in the order of time.
        limits: of all calls together, but for memory and what each may reply.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    parts = parts_of(wanted)
    each = replace(limits, cpu_s=limits.cpu_s / len(parts))
    with ThreadPoolExecutor(len(parts)) as threads:
        replies = tuple(
            threads.map(lambda part: run_limited("keyframe_looks", path, part, each), parts)
        )
    shares: dict[int, float] = {}
    pictures: dict[int, bytes] = {}
    for part, reply in zip(parts, replies, strict=True):
        predicted = reply.arrays[LOOK_ARRAYS].astype(np.float32)
        shares.update(zip(part.hinted, predicted.tolist(), strict=True))
        pictures |= _pictures_of(reply)
    return Seen(
        looks=_joined_looks(replies),
        predicted=np.array([shares[tick] for tick in wanted.hinted], np.float32),
        pictures=pictures,
        picture_size=max(map(_size_of, replies)),
    )


def parts_of(wanted: KeyframesWanted) -> list[KeyframesWanted]:
    """Part what is wanted by time.

    Each part begins with the keyframe that the part before ends with, since a look tells how it
    differs from the one before it.
    """
    pictures = len(wanted.ticks) + len(wanted.hinted)
    count = max(1, min(MAX_PARTS, len(wanted.ticks), pictures // PART_PICTURES))
    ticks, hinted = np.array(wanted.ticks, np.int64), np.array(wanted.hinted, np.int64)
    edges = [0, *(len(piece) for piece in np.array_split(ticks, count))]
    bounds = np.cumsum(edges).tolist()
    at = np.searchsorted(ticks[bounds[1:-1]], hinted, side="right")
    return [
        msgspec.structs.replace(
            wanted,
            ticks=tuple(ticks[max(0, begin - 1) : end].tolist()),
            hinted=tuple(hinted[at == number].tolist()),
        )
        for number, (begin, end) in enumerate(pairwise(bounds))
    ]


def _joined_looks(replies: Sequence[Reply]) -> tuple[NDArray[np.generic], ...]:
    """Join the looks of parts, without those that a part before has told already."""
    told: list[tuple[NDArray[np.generic], ...]] = []
    last: Int64Array = np.empty(0, np.int64)
    for reply in replies:
        looks = reply.arrays[:LOOK_ARRAYS]
        new: BoolArray = ~np.isin(looks[0], last)
        told.append(tuple(array[new] for array in looks))
        last = looks[0].astype(np.int64)
    return tuple(np.concatenate(arrays) for arrays in zip(*told, strict=True))


def _pictures_of(reply: Reply) -> dict[int, bytes]:
    if not _has_pictures(reply):
        return {}
    ticks, sizes, joined = reply.arrays[LOOK_ARRAYS + 1 :]
    data = joined.tobytes()
    ends = np.cumsum(sizes.astype(np.int64)).tolist()
    pieces = (data[begin:end] for begin, end in pairwise([0, *ends]))
    return dict(zip(ticks.astype(np.int64).tolist(), pieces, strict=True))


def _size_of(reply: Reply) -> tuple[int, int]:
    return reply.value_as(tuple[int, int]) if _has_pictures(reply) else (0, 0)


def _has_pictures(reply: Reply) -> bool:
    return len(reply.arrays) > LOOK_ARRAYS + 1  # else none were wanted
