"""Ranked segments to the entries of a page: videos with their best segments, or segments. Pure."""

from collections.abc import Iterable

import msgspec

from gateway.schemas import Group
from gateway.search.rerank import Scored

MAX_SEGMENTS = 20  # of one video in a page: what its moments are joined from


class Entry(msgspec.Struct, frozen=True):
    """One place in a page."""

    video_id: str
    segments: tuple[Scored, ...]  # best first, at least one
    duplicates: tuple[str, ...] = ()  # videos whose entries were nearly the same as this one

    @property
    def best(self) -> Scored:
        """The segment that stands for the entry."""
        return self.segments[0]

    @property
    def score(self) -> float:
        """The score of the best segment."""
        return self.best.score


def group(ranked: Iterable[Scored], by: Group) -> tuple[Entry, ...]:
    """Return the entries, best first.

    Args:
        ranked: segments, best first.
        by: `video`: an entry a video with its `MAX_SEGMENTS` best; `segment`: an entry a segment.
    """
    if by == "segment":
        return tuple(Entry(one.video_id, (one,)) for one in ranked)
    videos: dict[str, list[Scored]] = {}
    for one in ranked:
        videos.setdefault(one.video_id, []).append(one)
    return tuple(Entry(video_id, tuple(all_[:MAX_SEGMENTS])) for video_id, all_ in videos.items())
