"""The PIX law: what creators invested lifts a relevance by a small, bounded, visible part. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from math import log1p

import msgspec

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


class Scored(msgspec.Struct, frozen=True):
    """One segment with its final score and all that it came about by."""

    fused: Fused
    score: float
    evidence: float  # 0…1, what the cut-off looks at
    coherence: float  # what neighbours add
    relevance: float  # 0…1
    pix: int
    gain: float  # of the PIX law
    rank: int  # among all segments that matched, from 1
    rank_without_pix: int
    law: PixLaw

    @property
    def segment_id(self) -> str:
        """Which one it is."""
        return self.fused.segment_id

    @property
    def video_id(self) -> str:
        """What it is a part of."""
        return self.fused.video_id

    @property
    def parts(self) -> ScoreParts:
        """How the score came about, for the reply; few segments get that far."""
        boost = self.law.weight * self.gain
        return ScoreParts(
            legs=self.fused.legs,
            fusion=self.fused.fusion,
            coherence=self.coherence,
            relevance=self.relevance,
            evidence=self.evidence,
            pix=self.pix,
            pix_gain=self.gain,
            pix_weight=self.law.weight,
            pix_boost=boost,
            pix_cap=self.law.cap,
            rank=self.rank,
            rank_without_pix=self.rank_without_pix,
        )


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
    known = {one.segment_id: one for one in found if one.video_id in pix}
    relevances = {
        segment_id: min(1.0, one.fusion + coherence.get(segment_id, 0.0))
        for segment_id, one in known.items()
    }
    scores = {
        segment_id: relevances[segment_id] * (1 + law.weight * gains[one.video_id])
        for segment_id, one in known.items()
    }
    plain_ranks = {name: rank for rank, name in enumerate(_best_first(relevances), 1)}
    return tuple(
        Scored(
            fused=one,
            score=scores[one.segment_id],
            evidence=evidence_of(one.legs),
            coherence=coherence.get(one.segment_id, 0.0),
            relevance=relevances[one.segment_id],
            pix=pix[one.video_id],
            gain=gains[one.video_id],
            rank=rank,
            rank_without_pix=plain_ranks[one.segment_id],
            law=law,
        )
        for rank, one in enumerate(map(known.__getitem__, _best_first(scores)), 1)
    )


def _best_first(scores: Mapping[str, float]) -> list[str]:
    """Return the segments by score, best first; ids decide between equals."""
    return sorted(sorted(scores), key=scores.__getitem__, reverse=True)
