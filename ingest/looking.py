"""Looks at chosen pictures of a file through the sandbox, and reads what was seen."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import FloatArray, UInt8Array
from ingest.keyframe_looks import KeyframesWanted
from ingest.media import Int64Array
from ingest.replies import Reply
from ingest.sandbox import Limits, run_limited

LOOK_ARRAYS = 4  # of a reply; the predicted shares, frames and pictures come after them


@dataclass(frozen=True)
class Frames:
    """Decoded frames of one size."""

    ticks: Int64Array  # (n,) of those that are here
    pixels: UInt8Array  # (n, height, width, 3), RGB, upright and with square pixels


NO_FRAMES = Frames(np.zeros(0, np.int64), np.zeros((0, 0, 0, 3), np.uint8))


@dataclass(frozen=True)
class Seen:
    """What `ingest.keyframe_looks` tells of all that was wanted."""

    looks: tuple[NDArray[np.generic], ...]  # ticks, hashes, colours, changes
    predicted: FloatArray  # of each hinted packet
    frames: Frames  # those wanted, where the picture is large enough to be shrunk
    pictures: dict[int, bytes]  # by their ticks, in the order of time
    picture_size: tuple[int, int]  # width and height, in pixels


def look(path: Path, wanted: KeyframesWanted, limits: Limits) -> Seen:
    """Look at keyframes and hinted packets of a file.

    Raises:
        MediaRefused, MediaLimitExceeded: the file cannot be decoded within its limits.
    """
    reply = run_limited("keyframe_looks", path, wanted, limits)
    predicted, ticks, pixels = reply.arrays[LOOK_ARRAYS : LOOK_ARRAYS + 3]
    return Seen(
        looks=reply.arrays[:LOOK_ARRAYS],
        predicted=predicted.astype(np.float32),
        frames=Frames(ticks.astype(np.int64), cast(UInt8Array, pixels)),
        pictures=_pictures_of(reply) if wanted.pictures else {},
        picture_size=reply.value_as(tuple[int, int]) if wanted.pictures else (0, 0),
    )


def _pictures_of(reply: Reply) -> dict[int, bytes]:
    ticks, sizes, joined = reply.arrays[LOOK_ARRAYS + 3 :]
    data = joined.tobytes()
    ends = np.cumsum(sizes.astype(np.int64)).tolist()
    pieces = (data[begin:end] for begin, end in pairwise([0, *ends]))
    return dict(zip(ticks.astype(np.int64).tolist(), pieces, strict=True))
