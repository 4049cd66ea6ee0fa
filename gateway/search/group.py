"""Ranked segments to the entries of a page: videos with their best moments, or segments. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.schemas import Group
from gateway.search.rerank import Scored, by_score

MAX_MOMENTS = 5  # of one video in a page


@dataclass(frozen=True)
class Entry:
    """One place in a page."""

    video_id: str
    moments: tuple[Scored, ...]  # best first, at least one

    @property
    def score(self) -> float:
        """The score of the best moment."""
        return self.moments[0].score


def group(ranked: Iterable[Scored], by: Group) -> tuple[Entry, ...]:
    """Return the entries, best first.

    Args:
        ranked: segments, in any order.
        by: `video`: an entry a video with its `MAX_MOMENTS` best; `segment`: an entry a segment.
    """
    best_first = sorted(ranked, key=by_score)
    if by == "segment":
        return tuple(Entry(one.video_id, (one,)) for one in best_first)
    videos: dict[str, list[Scored]] = {}
    for one in best_first:
        videos.setdefault(one.video_id, []).append(one)
    return tuple(Entry(video_id, tuple(all_[:MAX_MOMENTS])) for video_id, all_ in videos.items())
