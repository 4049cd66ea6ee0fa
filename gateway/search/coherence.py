"""Temporal coherence: neighbouring segments of a video that both match lift each other. Pure."""

from collections.abc import Iterable
from itertools import groupby, pairwise

from gateway.index.rows import start_ms
from gateway.search.fuse import Fused

NEIGHBOUR_MS = 12_000  # two segments of about 5 s, and some slack: starts no farther apart


def coherence(found: Iterable[Fused], weight: float) -> dict[str, float]:
    """Return what each segment gains from its better neighbour, by segment id.

    The gain is `weight × min(its fusion, the neighbour's fusion)`: mutual, and never more than
    `weight` times what the segment is worth itself, so that a strong neighbour carries nobody.

    Args:
        found: segments of any videos.
        weight: 0…1.

    Returns:
        Gains over 0; a segment without a neighbour has none.
    """
    gains: dict[str, float] = {}
    by_time = sorted(
        ((one.video_id, start_ms(one.segment_id), one) for one in found),
        key=lambda entry: entry[:2],
    )
    for _, video in groupby(by_time, key=lambda entry: entry[0]):
        for (_, early_ms, early), (_, late_ms, late) in pairwise(video):
            if late_ms - early_ms <= NEIGHBOUR_MS:
                gain = weight * min(early.fusion, late.fusion)
                for one in (early, late):
                    gains[one.segment_id] = max(gain, gains.get(one.segment_id, 0.0))
    return gains
