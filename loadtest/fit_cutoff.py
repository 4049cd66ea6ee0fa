"""The cut-off that loses few true hits and leaves queries about absent things empty. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.errors import InvalidRequest
from gateway.search.cutoff import WEAKEST
from gateway.search.rerank import Scored
from loadtest.gathering import Split
from loadtest.ranking import Rules, ranked

MOST_LOST = 0.03  # of the true hits
DEPTH = 10  # a right segment counts as a true hit where it is among so many
STEP = 0.01  # cut-offs are multiples of it


@dataclass(frozen=True)
class CutoffFigures:
    """What a cut-off does to one split."""

    cutoff: float
    seed: int  # of the split
    true_hits: int
    lost: float  # share of them that the cut-off takes away
    absent_queries: int
    absent_empty: float  # share of them that find nothing
    lost_by_kind: dict[str, float]
    answered: tuple[str, ...]  # the absent queries that find something all the same


@dataclass(frozen=True)
class CutoffReport:
    """A cut-off, on the split that it was fitted on and on another one, and the default there."""

    model_version: str
    cutoff: float
    fitted_on: CutoffFigures
    judged_on: CutoffFigures
    default: CutoffFigures


def fit_cutoff(split: Split, rules: Rules, most_lost: float = MOST_LOST) -> float:
    """Return the highest cut-off, a multiple of STEP, that loses no more true hits than that.

    Raises:
        InvalidRequest: the split has no true hits.
    """
    evidence = np.array([value for _, value in _true_hits(split, rules)])
    if not len(evidence):
        raise InvalidRequest(f"the split of seed {split.seed} has no true hits to fit on")
    cutoffs = np.arange(0, 1 + STEP, STEP)
    lost = (evidence[None, :] < cutoffs[:, None]).mean(axis=1)  # (cutoffs,)
    return round(float(cutoffs[lost <= most_lost].max()), 2)


def cutoff_figures(split: Split, rules: Rules, cutoff: float) -> CutoffFigures:
    """Return what a cut-off does to a split."""
    hits = _true_hits(split, rules)
    tops = {one.text: _most_evidence(ranked(one, rules)) for one in split.absent}
    kinds = sorted({kind for kind, _ in hits})
    return CutoffFigures(
        cutoff=cutoff,
        seed=split.seed,
        true_hits=len(hits),
        lost=_share_below(cutoff, [value for _, value in hits]),
        absent_queries=len(tops),
        absent_empty=_share_below(cutoff, list(tops.values())),
        lost_by_kind={
            kind: _share_below(cutoff, [value for of, value in hits if of == kind])
            for kind in kinds
        },
        answered=tuple(text for text, value in tops.items() if value >= cutoff),
    )


def _true_hits(split: Split, rules: Rules) -> list[tuple[str, float]]:
    """Return the kind of query and the highest cut-off that keeps it, of each right hit."""
    hits: list[tuple[str, float]] = []
    for one in split.answerable:
        found = ranked(one, rules)
        right = [s for s in found[:DEPTH] if s.segment_id in one.right]
        if right and one.question:
            highest = min(_most_evidence(found), right[0].evidence / WEAKEST)
            hits.append((one.question.kind, highest))
    return hits


def _most_evidence(found: Sequence[Scored]) -> float:
    return max((one.evidence for one in found), default=0.0)


def _share_below(cutoff: float, values: Sequence[float]) -> float:
    return float(np.mean(np.array(values) < cutoff)) if values else 0.0
