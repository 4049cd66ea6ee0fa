"""Pure: what the index should hold of a video, compared with what it holds."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np

from ensembles.arrays import Int32Array
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.catalogue import SegmentFacts
from gateway.index.rows import keyword_text
from gateway.schemas import LegName
from ingest.tokens import Tokens

Kind = Literal[
    "missing rows",  # the catalogue says that they are in the index
    "surplus rows",  # of a video that is there: they belong to none of its segments
    "orphan rows",  # of a video that the catalogue does not have
    "no file",
    "no tokens",
    "orphan folder",
]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which catalogue, index and disk disagree."""

    kind: Kind
    video_id: str
    leg: LegName | None = None
    rows: int = 0
    detail: str = ""


@dataclass(frozen=True)
class Expected:
    """The segments that a leg must have of a video, and those that it may have."""

    required: frozenset[str]
    allowed: frozenset[str]


def expected_rows(
    record: VideoRecord, segments: Sequence[SegmentFacts], tokens: Tokens | None
) -> dict[LegName, Expected]:
    """Return what each leg should have of a video.

    Args:
        record: the video.
        segments: of it.
        tokens: of it; without them it is not known which segments have frames or sound.
    """
    every = frozenset(segment.segment_id for segment in segments)
    spoken = frozenset(segment.segment_id for segment in segments if segment.text)
    worded = frozenset(
        segment.segment_id
        for segment in segments
        if keyword_text(segment.text, record.title, record.tags)
    )
    seen = heard = Expected(frozenset(), every)
    if tokens is not None:
        seen = _exactly(_with(segments, tokens.frame_segments[tokens.frame_weights > 0]))
        heard = _exactly(_with(segments, tokens.audio_segments[tokens.audio_weights > 0]))
    return {
        "visual": seen,
        "speech": _exactly(spoken),
        "sound": heard,
        "fused": Expected(seen.required, every),  # sound or words alone may fuse, or may not
        "keyword": _exactly(worded),
    }


def compare(
    video_id: str, expected: Mapping[LegName, Expected], found: Mapping[LegName, Collection[str]]
) -> Iterator[Finding]:
    """Yield where the index has too few or too many rows of a video.

    Args:
        video_id: whose.
        expected: of each leg.
        found: the segments that each leg has; legs that the engine has not are not in it.
    """
    for leg, there in found.items():
        missing = expected[leg].required - set(there)
        surplus = set(there) - expected[leg].allowed
        if missing:
            yield Finding(kind="missing rows", video_id=video_id, leg=leg, rows=len(missing))
        if surplus:
            yield Finding(kind="surplus rows", video_id=video_id, leg=leg, rows=len(surplus))


def _exactly(segment_ids: frozenset[str]) -> Expected:
    return Expected(segment_ids, segment_ids)


def _with(segments: Sequence[SegmentFacts], numbers: Int32Array) -> frozenset[str]:
    present = set(np.unique(numbers).tolist())
    return frozenset(segment.segment_id for segment in segments if segment.index in present)
