"""The legs' matches to one relevance a segment, by one of three rules. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Literal

import msgspec

from ensembles.bundle import Intent
from gateway.schemas import FusionRule, LegName, LegScore, LegWeights, Mode
from gateway.search.calibrate import Match
from gateway.search.intent import Intents

Modality = Literal["vision", "text", "audio"]
Shares = Mapping[Modality, float]
Splits = Mapping[Modality, Mapping[LegName, float]]

# What each mode gives to each modality. Shares are relative: those of the legs that run are
# brought to a sum of one.
BALANCED: Shares = {"vision": 0.5, "text": 0.5, "audio": 0.3}  # sound has one leg, others two
MODES: Mapping[Mode, Shares] = {
    "auto": BALANCED,  # where nobody knows what the words ask for
    "balanced": BALANCED,
    "vision_heavy": {"vision": 0.7, "text": 0.3, "audio": 0.3},
    "text_heavy": {"vision": 0.3, "text": 0.7, "audio": 0.3},
    "audio_heavy": {"vision": 0.3, "text": 0.3, "audio": 0.7},
}

# How a modality's share is split over its legs. Sentences weigh more than words: a paraphrase
# shares no word with what it means, so the keyword leg has nothing to say about it, and where a
# rare word is shared, 0.3 of the highest relevance is more than sentences usually differ by.
SPLITS: Splits = {
    "vision": {"visual": 0.6, "fused": 0.4},
    "text": {"speech": 0.7, "keyword": 0.3},
    "audio": {"sound": 1.0},
}

# What each intent gives, shares and splits: frames show a look, but only the fused vector has seen
# time pass, and it has heard. Chosen on captions of a made-up set (docs/ranking.md).
INTENDED: Mapping[Intent, tuple[Shares, Splits]] = {
    "look": ({"vision": 1.0}, {"vision": {"visual": 0.9, "fused": 0.1}}),
    "motion": ({"vision": 1.0}, {"vision": {"visual": 0.1, "fused": 0.9}}),
    "sound": ({"audio": 0.9, "vision": 0.1}, {**SPLITS, "vision": {"fused": 1.0}}),
    "speech": ({"text": 1.0}, {"text": {"speech": 0.75, "keyword": 0.25}}),
    "several": (BALANCED, SPLITS),
}

# A category multiplies the shares: a tutorial is in its words, music in its sound.
SHIFTS: Mapping[str, Shares] = {
    "tutorial": {"vision": 1.0, "text": 2.0, "audio": 1.0},
    "music": {"vision": 1.0, "text": 1.0, "audio": 2.0},
}
EVEN = frozenset({"vlog"})  # categories in which every modality has the same share


RRF_K = 60  # of reciprocal rank fusion: the number of its paper


class Fused(msgspec.Struct, frozen=True):
    """One segment with what its legs say together."""

    segment_id: str
    video_id: str
    legs: tuple[LegScore, ...]  # of the legs that found it
    fusion: float  # 0…1: the sum of their parts


def leg_weights(
    running: Collection[LegName],
    mode: Mode,
    explicit: LegWeights | None = None,
    category: str | None = None,
    intents: Intents = MappingProxyType({}),
) -> dict[LegName, float]:
    """Return the share of each leg that runs; they sum to one.

    A leg that does not run leaves its share to the other legs of its modality first, so that a
    mode keeps its meaning whatever a profile can do.

    Args:
        running: the legs that can answer.
        mode: how the modalities are weighed.
        explicit: the client's weights, in place of mode and category.
        category: shifts the weights of the mode, or of the intents.
        intents: how probable each is that the query has; {}: the mode decides.
    """
    if explicit is not None:
        return _normalised({leg: getattr(explicit, leg) for leg in sorted(running)})
    if not intents:
        return _shifted(_spread(running, MODES[mode], SPLITS), category)
    weights: dict[LegName, float] = {}
    for intent, likely in intents.items():
        for leg, weight in _spread(running, *INTENDED[intent]).items():
            weights[leg] = weights.get(leg, 0.0) + likely * weight
    return _shifted(weights, category)


def _spread(running: Collection[LegName], shares: Shares, splits: Splits) -> dict[LegName, float]:
    """Split modalities' shares over the legs that run; {} where none of them does."""
    weights: dict[LegName, float] = {}
    for modality, share in shares.items():
        inside = {leg: part for leg, part in splits[modality].items() if leg in running}
        weights |= {leg: share * part for leg, part in _normalised(inside).items()}
    return _normalised(weights)


def _shifted(weights: Mapping[LegName, float], category: str | None) -> dict[LegName, float]:
    """Return the weights with each modality's sum shifted as the category says."""
    shifted: dict[LegName, float] = {}
    for modality, split in SPLITS.items():
        inside = {leg: weights[leg] for leg in split if leg in weights}
        share = sum(inside.values()) * SHIFTS.get(category or "", {}).get(modality, 1.0)
        share = 1.0 if category in EVEN else share
        shifted |= {leg: share * part for leg, part in _normalised(inside).items()}
    return _normalised(shifted)


def _normalised(weights: Mapping[LegName, float]) -> dict[LegName, float]:
    total = sum(weights.values())
    return {leg: weight / total for leg, weight in weights.items() if weight > 0}


def fuse(
    matches: Mapping[LegName, Sequence[Match]],
    weights: Mapping[LegName, float],
    rule: FusionRule = "weighted",
) -> tuple[Fused, ...]:
    """Return every segment that a leg found, in the order of their ids.

    A leg that did not find a segment adds nothing to it, and a leg without weight adds nothing.

    Args:
        matches: of each leg.
        weights: of the legs; they sum to one at most.
        rule: `weighted`: the sum of weight × strength, which keeps its absolute meaning; `rrf`:
            the sum of weight × (RRF_K + 1) / (RRF_K + rank), reciprocal rank fusion (Cormack,
            Clarke and Büttcher 2009), scaled to 1 for what is first in every leg; `minmax`: the
            sum of weight × where the raw score lies between the leg's lowest and highest one.
    """
    by_segment: dict[str, list[LegScore]] = {}
    videos: dict[str, str] = {}
    for leg in sorted(weights):
        found = matches.get(leg, ())
        for match, value in zip(found, _values(found, rule), strict=True):
            score = _leg_score(match, weights[leg], value)
            by_segment.setdefault(match.segment_id, []).append(score)
            videos[match.segment_id] = match.video_id
    return tuple(
        Fused(segment_id, videos[segment_id], tuple(legs), fusion_of(legs))
        for segment_id, legs in sorted(by_segment.items())
    )


def fusion_of(legs: Iterable[LegScore]) -> float:
    """Return the sum of what the legs add; rounding never takes it over 1."""
    return min(1.0, sum(leg.part for leg in legs))


def evidence_of(legs: Iterable[LegScore]) -> float:
    """Return how sure the legs are that a segment answers, 0…1, whatever their weights.

    Each leg is taken for an independent witness who is right with the probability of its evidence
    (the noisy or; Pearl 1988, chapter 4.3.2). That is its relevance as `weigh_evidence` weighs it;
    where the leg searched with several inputs, each of them is a witness in the same way.
    """
    doubt = 1.0
    for leg in legs:
        doubt *= 1 - leg.evidence
    return 1 - doubt


def _values(matches: Sequence[Match], rule: FusionRule) -> list[float]:
    """Return what each match of one leg is worth by a rule, 0…1."""
    if rule == "rrf":
        return [(RRF_K + 1) / (RRF_K + match.rank) for match in matches]
    if rule == "minmax":
        return _between([match.raw for match in matches])
    return [match.strength for match in matches]


def _between(raws: Sequence[float]) -> list[float]:
    """Return where each score lies between the lowest and the highest; 1 where all are equal."""
    low, high = min(raws, default=0.0), max(raws, default=0.0)
    return [(raw - low) / (high - low) if high > low else 1.0 for raw in raws]


def _leg_score(match: Match, weight: float, value: float) -> LegScore:
    return LegScore(
        leg=match.leg,
        raw=match.raw,
        relevance=match.relevance,
        evidence=match.evidence,
        strength=match.strength,
        weight=weight,
        part=weight * value,
        rank=match.rank,
    )
