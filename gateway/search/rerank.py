"""The PIX law: what creators invested lifts a relevance by a small, bounded, visible part. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log1p

from gateway.errors import ConfigurationError
from gateway.schemas import ScoreParts
from gateway.search.fuse import Fused, evidence_of

MAX_PIX_WEIGHT = 0.5  # β is never over it


@dataclass(frozen=True)
class PixLaw:
    """How PIX lifts a relevance: `score = relevance × (1 + β·g)`.

    `g = log1p(min(pix, cap)) / log1p(cap)` rises from 0 to 1, so PIX can never lift a result over
    one that is more than (1 + β) times as relevant.

    Raises:
        ConfigurationError: a weight outside 0…`MAX_PIX_WEIGHT`, or a cap below 1.
    """

    weight: float  # β
    cap: int  # PIX over this adds nothing

    def __post_init__(self) -> None:
        """Check the bounds that the law promises."""
        if not 0 <= self.weight <= MAX_PIX_WEIGHT:
            raise ConfigurationError(
                f"the PIX weight must be 0 to {MAX_PIX_WEIGHT}, got {self.weight}"
            )
        if self.cap < 1:
            raise ConfigurationError(f"the PIX cap must be at least 1, got {self.cap}")

    def gain(self, pix: int) -> float:
        """Return g for a video's PIX, 0…1."""
        return log1p(min(max(pix, 0), self.cap)) / log1p(self.cap)


@dataclass(frozen=True)
class Scored:
    """One segment with its final score and how that came about."""

    segment_id: str
    video_id: str
    score: float
    parts: ScoreParts


def rerank(
    found: Iterable[Fused],
    coherence: Mapping[str, float],
    pix: Mapping[str, int],
    law: PixLaw,
) -> tuple[Scored, ...]:
    """Return the segments of known videos by score, best first; ids decide between equals.

    Args:
        found: what the legs found.
        coherence: what neighbours add, by segment id.
        pix: the PIX of each searchable video now; segments of other videos are dropped.
        law: how PIX lifts.
    """
    gains = {video_id: law.gain(owned) for video_id, owned in pix.items()}
    known = [one for one in found if one.video_id in pix]
    relevances = {
        one.segment_id: min(1.0, one.fusion + coherence.get(one.segment_id, 0.0)) for one in known
    }
    scores = {
        one.segment_id: relevances[one.segment_id] * (1 + law.weight * gains[one.video_id])
        for one in known
    }
    ranks, plain_ranks = _ranks(scores), _ranks(relevances)
    scored = (
        Scored(
            one.segment_id,
            one.video_id,
            scores[one.segment_id],
            ScoreParts(
                legs=one.legs,
                fusion=one.fusion,
                coherence=coherence.get(one.segment_id, 0.0),
                relevance=relevances[one.segment_id],
                evidence=evidence_of(one.legs),
                pix=pix[one.video_id],
                pix_gain=gains[one.video_id],
                pix_weight=law.weight,
                pix_boost=law.weight * gains[one.video_id],
                pix_cap=law.cap,
                rank=ranks[one.segment_id],
                rank_without_pix=plain_ranks[one.segment_id],
            ),
        )
        for one in known
    )
    return tuple(sorted(scored, key=by_score))


def _ranks(scores: Mapping[str, float]) -> dict[str, int]:
    """Return each segment's place by score, from 1; ids decide between equals."""
    best_first = sorted(scores, key=lambda segment_id: (-scores[segment_id], segment_id))
    return {segment_id: rank for rank, segment_id in enumerate(best_first, 1)}


def by_score(scored: Scored) -> tuple[float, str]:
    """Sort key: the best score first, then by segment id."""
    return (-scored.score, scored.segment_id)
