"""Neighbouring segments of a video that match about as well, joined into one moment. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gateway.catalogue.catalogue import SegmentFacts
from gateway.search.rerank import Scored

JOIN_GAP_S = 0.5  # between two segments that follow each other, for what rounding leaves
JOIN_SHARE = 0.7  # of the best segment's score that a neighbour must have to be part of its moment
MAX_MOMENTS = 5  # of one video in a page


@dataclass(frozen=True)
class Joined:
    """A span of a video without a gap."""

    best: Scored
    segments: tuple[SegmentFacts, ...]  # in the order of time, the best one's among them


def join(found: Sequence[Scored], facts: Mapping[str, SegmentFacts]) -> tuple[Joined, ...]:
    """Return the MAX_MOMENTS best moments of one video, best first; none shares a segment.

    A moment grows from the best segment that is left, to both sides, over neighbours that have at
    least JOIN_SHARE of its score.

    Args:
        found: segments of one video, best first.
        facts: where they are; those that it does not have are left out.
    """
    by_time = sorted(
        (one for one in found if one.segment_id in facts),
        key=lambda one: facts[one.segment_id].start_s,
    )
    free = [True] * len(by_time)
    moments: list[Joined] = []
    places = {one.segment_id: place for place, one in enumerate(by_time)}
    for best in found:
        place = places.get(best.segment_id)
        if place is None or not free[place] or len(moments) == MAX_MOMENTS:
            continue
        first, last = _grow(by_time, free, place, facts)
        free[first : last + 1] = [False] * (last + 1 - first)
        segments = tuple(facts[one.segment_id] for one in by_time[first : last + 1])
        moments.append(Joined(best, segments))
    return tuple(moments)


def _grow(
    by_time: Sequence[Scored],
    free: Sequence[bool],
    place: int,
    facts: Mapping[str, SegmentFacts],
) -> tuple[int, int]:
    """Return the first and the last place of the moment round a place."""
    least = JOIN_SHARE * by_time[place].score

    def joins(early: int, late: int, new: int) -> bool:
        gap_s = facts[by_time[late].segment_id].start_s - facts[by_time[early].segment_id].end_s
        return free[new] and by_time[new].score >= least and gap_s <= JOIN_GAP_S

    first = last = place
    while first > 0 and joins(first - 1, first, first - 1):
        first -= 1
    while last + 1 < len(by_time) and joins(last, last + 1, last + 1):
        last += 1
    return first, last


def text_of(joined: Joined) -> str:
    """Return what is said in a moment; what neighbours share is there once."""
    texts = dict.fromkeys(segment.text for segment in joined.segments if segment.text)
    return " ".join(texts)
