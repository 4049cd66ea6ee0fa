"""The cut-off: which matches are no answer at all. Pure."""

from collections.abc import Collection, Sequence

from gateway.schemas import LegName
from gateway.search.rerank import Scored

MAX_CUT = 10  # entries that a reply shows of what was cut off


def cutoff_of(asked: float | None, default: float, answered: Collection[LegName]) -> float:
    """Return the least evidence of a hit.

    Words alone are little evidence, but where no other leg was asked or could answer, they are all
    there is: then only a cut-off that was asked for cuts.

    Args:
        asked: by the request.
        default: the server's.
        answered: the legs that answered.
    """
    if asked is not None:
        return asked
    return 0.0 if set(answered) == {"keyword"} else default


def cut(ranked: Sequence[Scored], cutoff: float) -> tuple[tuple[Scored, ...], tuple[Scored, ...]]:
    """Return the segments with enough evidence, and the others, both in their order.

    PIX, weights and neighbours have no part in it: what is no answer cannot be lifted into one.
    """
    kept = tuple(one for one in ranked if one.evidence >= cutoff)
    return kept, tuple(one for one in ranked if one.evidence < cutoff)
