"""Temporal coherence: neighbouring segments of a video that both match lift each other. Pure."""

from collections.abc import Iterable
from itertools import pairwise

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
    videos: dict[str, list[Fused]] = {}
    for one in found:
        videos.setdefault(one.video_id, []).append(one)
    for segments in videos.values():
        if len(segments) > 1:
            by_time = sorted((start_ms(one.segment_id), one.segment_id, one) for one in segments)
            for (early_ms, _, early), (late_ms, _, late) in pairwise(by_time):
                if late_ms - early_ms <= NEIGHBOUR_MS:
                    gain = weight * min(early.fusion, late.fusion)
                    for one in (early, late):
                        gains[one.segment_id] = max(gain, gains.get(one.segment_id, 0.0))
    return gains
