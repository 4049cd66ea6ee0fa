"""What goes into the index and what comes out of it: no client, no protobuf, no I/O."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import msgspec

from ensembles.arrays import FloatArray
from gateway.schemas import LegName

VECTOR_LEGS: tuple[LegName, ...] = ("visual", "speech", "sound", "fused")
LEGS: tuple[LegName, ...] = (*VECTOR_LEGS, "keyword")

MAX_KEYWORD_BYTES = 60_000  # of a text in the index, in UTF-8; Milvus takes 65,535


@dataclass(frozen=True, kw_only=True)
class IndexRow:
    """One segment as the index keeps it; a leg whose vector is None has no row of it."""

    segment_id: str
    video_id: str
    creator_id: str
    title: str
    category: str | None
    language: str | None
    tags: tuple[str, ...]
    duration_s: float  # of the whole video
    text: str  # the segment's transcript, "" where nobody speaks
    visual: FloatArray | None = None  # (vision,), unit length; so are the others
    speech: FloatArray | None = None  # (sentence,)
    sound: FloatArray | None = None  # (audio,)
    fused: FloatArray | None = None  # (fused,)

    def vector(self, leg: LegName) -> FloatArray | None:
        """Return the vector of a vector leg, or None where the segment has none."""
        return cast("FloatArray | None", getattr(self, leg))

    @property
    def keywords(self) -> str:
        """The text that the keyword leg searches."""
        return keyword_text(self.text, self.title, self.tags)


@dataclass(frozen=True, kw_only=True)
class VideoFields:
    """What a PATCH of a video changes in its rows: always the new values, all four of them."""

    title: str
    category: str | None
    language: str | None
    tags: tuple[str, ...]


class Candidate(msgspec.Struct, frozen=True, gc=False):
    """One segment that a leg found."""

    segment_id: str
    video_id: str
    raw: float  # the engine's score: a cosine, or BM25


def keyword_text(transcript: str, title: str, tags: Collection[str]) -> str:
    """Return a segment's transcript, title and tags as one text of bounded length."""
    return cut("\n".join(part for part in (transcript, title, " ".join(tags)) if part.strip()))


def cut(text: str) -> str:
    """Return a text without what is over `MAX_KEYWORD_BYTES`, whole characters only."""
    return text.encode()[:MAX_KEYWORD_BYTES].decode(errors="ignore")


def start_ms(segment_id: str) -> int:
    """Return when a segment starts, which its id tells: `<video_id>-<start_ms>`."""
    return int(segment_id.rpartition("-")[2])
