"""Who is seen in rankings, and how PIX moves them: the figures of an audit. Pure.

Exposure is what a place in a list is worth to whoever is there: 1 / log2(1 + rank) (Singh and
Joachims 2018). An entry's share is its part of the exposure of all places that were looked at.
"""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence

import msgspec

from gateway.schemas import Hit, Video

LENGTHS_S = (60.0, 300.0, 1_200.0)  # borders of the groups of videos by length
PIX = (1, 100, 1_000, 10_000)  # borders of the groups by PIX


class Seen(msgspec.Struct, frozen=True):
    """How one group of videos is seen over all queries."""

    group: str
    videos: int  # that were found by any query
    exposure: float  # its share of all exposure, 0…1
    exposure_without_pix: float
    rank_change: float  # mean places that PIX moved its videos up; negative: down
    most_places_up: int
    most_places_down: int


class Audit(msgspec.Struct, frozen=True):
    """What moves results, over some queries."""

    queries: int
    answered: int  # queries that found anything
    depth: int  # places that were looked at
    pix_weight: float
    pix_cap: int
    reordered: int  # queries whose first places PIX changed
    rank_correlation: float  # mean over the videos of log PIX and rank change, Spearman; 0: none
    by_pix: tuple[Seen, ...]
    by_creator: tuple[Seen, ...]
    by_category: tuple[Seen, ...]
    by_length: tuple[Seen, ...]


class Placing(msgspec.Struct, frozen=True):
    """One video in the answer to one query."""

    video_id: str
    pix: int
    rank: int
    rank_without_pix: int


def placings(hits: Sequence[Hit]) -> list[Placing]:
    """Return each video's place in an answer, with and without PIX.

    Args:
        hits: segments, as `group` `segment` gives them, by relevance.
    """
    plain = sorted(hits, key=lambda hit: hit.moments[0].parts.rank_without_pix)
    without = {video_id: place for place, video_id in enumerate(_videos(plain), 1)}
    pix = {hit.video_id: hit.moments[0].parts.pix for hit in hits}
    return [
        Placing(video_id, pix[video_id], place, without[video_id])
        for place, video_id in enumerate(_videos(hits), 1)
    ]


def audit(
    answers: Sequence[Sequence[Placing]],
    videos: Mapping[str, Video],
    *,
    depth: int,
    pix_weight: float,
    pix_cap: int,
) -> Audit:
    """Return what moved the results of some queries.

    Args:
        answers: the videos that each query found.
        videos: what the catalogue tells of them; others count as `gone`.
        depth: places at the top whose exposure counts.
        pix_weight: β that they were ranked with.
        pix_cap: PIX over this added nothing.
    """
    every = [placing for answer in answers for placing in answer]

    def seen(name: Callable[[Placing], str]) -> tuple[Seen, ...]:
        return _seen(every, name, depth)

    def told(tell: Callable[[Video], str]) -> Callable[[Placing], str]:
        return lambda one: tell(videos[one.video_id]) if one.video_id in videos else "gone"

    return Audit(
        queries=len(answers),
        answered=sum(map(bool, answers)),
        depth=depth,
        pix_weight=pix_weight,
        pix_cap=pix_cap,
        reordered=sum(_is_reordered(answer, depth) for answer in answers),
        rank_correlation=_correlation(
            [one.pix for one in every], [one.rank_without_pix - one.rank for one in every]
        ),
        by_pix=seen(lambda one: _between(one.pix, PIX, "PIX")),
        by_creator=seen(told(lambda video: video.creator_id)),
        by_category=seen(told(lambda video: video.category or "none")),
        by_length=seen(told(lambda video: _between(video.duration_s or 0.0, LENGTHS_S, "s"))),
    )


def exposure(rank: int, depth: int) -> float:
    """Return what a place is worth; 0 after `depth`."""
    return 1 / math.log2(1 + rank) if rank <= depth else 0.0


def _videos(hits: Sequence[Hit]) -> list[str]:
    """Return the videos in the order in which they come first."""
    return list(dict.fromkeys(hit.video_id for hit in hits))


def _is_reordered(answer: Sequence[Placing], depth: int) -> bool:
    return any(one.rank != one.rank_without_pix for one in answer if one.rank <= depth)


def _seen(every: Sequence[Placing], name: Callable[[Placing], str], depth: int) -> tuple[Seen, ...]:
    """Return the groups that `name` tells apart, the most exposed first."""
    groups: dict[str, list[Placing]] = {}
    for one in every:
        groups.setdefault(name(one), []).append(one)
    total = sum(exposure(one.rank, depth) for one in every) or 1.0
    plain_total = sum(exposure(one.rank_without_pix, depth) for one in every) or 1.0
    rows = []
    for group_name, members in groups.items():
        moves = [one.rank_without_pix - one.rank for one in members]
        rows.append(
            Seen(
                group=group_name,
                videos=len({one.video_id for one in members}),
                exposure=sum(exposure(one.rank, depth) for one in members) / total,
                exposure_without_pix=sum(exposure(one.rank_without_pix, depth) for one in members)
                / plain_total,
                rank_change=sum(moves) / len(moves),
                most_places_up=max([0, *moves]),
                most_places_down=-min([0, *moves]),
            )
        )
    return tuple(sorted(rows, key=lambda row: (-row.exposure, row.group)))


def _between(value: float, borders: Sequence[float], unit: str) -> str:
    """Return the name of the group between two borders, e.g. `100 to 1,000 PIX`."""
    below = [border for border in borders if border <= value]
    above = [border for border in borders if border > value]
    if not below:
        return f"under {above[0]:,.0f} {unit}"
    return f"{below[-1]:,.0f} to {above[0]:,.0f} {unit}" if above else f"{below[-1]:,.0f}+ {unit}"


def _correlation(values: Sequence[float], moves: Sequence[float]) -> float:
    """Return Spearman's rank correlation; 0 where either never differs."""
    if len(set(values)) < 2 or len(set(moves)) < 2:
        return 0.0
    return statistics.correlation(_mean_ranks(values), _mean_ranks(moves))


def _mean_ranks(values: Sequence[float]) -> list[float]:
    """Return each value's rank; equals share the mean of theirs."""
    places: dict[float, list[int]] = {}
    for place, value in enumerate(sorted(values)):
        places.setdefault(value, []).append(place)
    return [sum(places[value]) / len(places[value]) for value in values]
