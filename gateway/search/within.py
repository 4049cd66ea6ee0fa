"""Bounds that only the catalogue knows, where too many videos meet them to be named in a filter."""

from dataclasses import replace

from gateway.catalogue.bounds import Bounds
from gateway.search.legs import Found
from gateway.search.page import Reader

DEEPER = 16  # times as many candidates are looked through; for the embedded engine twice the work
MAX_DEPTH = 16_384  # candidates that Milvus gives at most


def depth_of(k: int) -> int:
    """Return how many candidates of a leg are looked through for `k` within bounds."""
    return max(k, min(MAX_DEPTH, DEEPER * k))


async def only_within(found: Found, bounds: Bounds, reader: Reader, k: int) -> Found:
    """Return each leg's `k` best candidates of videos within bounds.

    Args:
        found: the `depth_of(k)` best candidates of each leg, of any videos.
        bounds: on the PIX and the dates of videos.
        reader: knows which videos are within them.
        k: candidates of each leg.

    Returns:
        The same as if the index knew the bounds; where it may not be, because a leg has more
        candidates than those and too few of them are within bounds, `degraded` names the leg.

    Raises:
        DeadlineExceeded: the catalogue does not answer in time.
    """
    videos = {one.video_id for candidates in found.candidates.values() for one in candidates}
    within = await reader.pix_of(videos, bounds)
    kept = {
        leg: tuple(one for one in candidates if one.video_id in within)[:k]
        for leg, candidates in found.candidates.items()
    }
    short = [
        leg
        for leg, candidates in found.candidates.items()
        if len(candidates) >= depth_of(k) and len(kept[leg]) < k
    ]
    if not short:
        return replace(found, candidates=kept)
    reason = (
        f"filters: only the nearest {depth_of(k):,} segments of {', '.join(sorted(short))} were "
        "looked through for videos with this PIX and date: narrow the range"
    )
    return replace(found, candidates=kept, degraded=(*found.degraded, reason))
