"""The cut-off: which matches are no answer at all. Pure."""

from collections.abc import Collection, Sequence

from gateway.schemas import LegName
from gateway.search.rerank import Scored

MAX_CUT = 10  # entries that a reply shows of what was cut off
WEAKEST = 0.5  # of the cut-off: what the hits beside a sure one must have
WORDLESS = 0.5  # of the default, which is fitted on words: for pictures, sounds, clips, segments


def cutoff_of(
    asked: float | None, default: float, answered: Collection[LegName], *, words: bool
) -> float:
    """Return the least evidence of a search's surest hit.

    Words alone are little evidence, but where no other leg was asked or could answer, they are all
    there is: then only a cut-off that was asked for cuts.

    Args:
        asked: by the request.
        default: the server's.
        answered: the legs that answered.
        words: whether the query has any.
    """
    if asked is not None:
        return asked
    if set(answered) == {"keyword"}:
        return 0.0
    return default if words else WORDLESS * default


def cut(ranked: Sequence[Scored], cutoff: float) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    """Return the segments with enough evidence, and the others, both in their order.

    Two thresholds, as edges are found in pictures (hysteresis; Canny 1986): where no segment has
    the evidence of the cut-off, nothing answers; where one has, those with WEAKEST of it do too.
    PIX, weights and neighbours have no part in it: what is no answer cannot be lifted into one.
    """
    least = cutoff * WEAKEST
    if max((one.evidence for one in ranked), default=0.0) < cutoff:
        return (), tuple(ranked)
    kept = tuple(one for one in ranked if one.evidence >= least)
    return kept, tuple(one for one in ranked if one.evidence < least)
