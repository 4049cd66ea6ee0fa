"""The legs' matches to one relevance a segment: a weighted sum. Pure."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from gateway.schemas import LegName, LegScore, LegWeights, Mode
from gateway.search.calibrate import Match

Modality = str

# What each mode gives to each modality. Shares are relative: those of the legs that run are
# brought to a sum of one.
MODES: Mapping[Mode, Mapping[Modality, float]] = {
    "balanced": {"vision": 0.5, "text": 0.5, "audio": 0.5},
    "vision_heavy": {"vision": 0.7, "text": 0.3, "audio": 0.3},
    "text_heavy": {"vision": 0.3, "text": 0.7, "audio": 0.3},
    "audio_heavy": {"vision": 0.3, "text": 0.3, "audio": 0.7},
}

# How a modality's share is split over its legs. Sentences weigh more than words: a paraphrase
# shares no word with what it means, so the keyword leg has nothing to say about it, and where a
# rare word is shared, 0.3 of the highest relevance is more than sentences usually differ by.
SPLITS: Mapping[Modality, Mapping[LegName, float]] = {
    "vision": {"visual": 0.6, "fused": 0.4},
    "text": {"speech": 0.7, "keyword": 0.3},
    "audio": {"sound": 1.0},
}

# A category multiplies the shares: a tutorial is in its words, music in its sound.
SHIFTS: Mapping[str, Mapping[Modality, float]] = {
    "tutorial": {"vision": 1.0, "text": 2.0, "audio": 1.0},
    "music": {"vision": 1.0, "text": 1.0, "audio": 2.0},
}
EVEN = frozenset({"vlog"})  # categories in which every modality has the same share


@dataclass(frozen=True)
class Fused:
    """One segment with what its legs say together."""

    segment_id: str
    video_id: str
    legs: tuple[LegScore, ...]  # of the legs that found it
    fusion: float  # 0…1: the sum of their weight × relevance


def leg_weights(
    running: Collection[LegName],
    mode: Mode,
    explicit: LegWeights | None = None,
    category: str | None = None,
) -> dict[LegName, float]:
    """Return the share of each leg that runs; they sum to one.

    A leg that does not run leaves its share to the other legs of its modality first, so that a
    mode keeps its meaning whatever a profile can do.

    Args:
        running: the legs that can answer.
        mode: how the modalities are weighed.
        explicit: the client's weights, in place of mode and category.
        category: shifts the mode's weights.
    """
    if explicit is not None:
        return _normalised({leg: getattr(explicit, leg) for leg in sorted(running)})
    shares = _shares(mode, category)
    weights: dict[LegName, float] = {}
    for modality, split in SPLITS.items():
        inside = _normalised({leg: part for leg, part in split.items() if leg in running})
        weights |= {leg: shares[modality] * part for leg, part in inside.items()}
    return _normalised(weights)


def _shares(mode: Mode, category: str | None) -> Mapping[Modality, float]:
    if category in EVEN:
        return dict.fromkeys(SPLITS, 1.0)
    shift = SHIFTS.get(category or "", {})
    return {modality: share * shift.get(modality, 1.0) for modality, share in MODES[mode].items()}


def _normalised(weights: Mapping[LegName, float]) -> dict[LegName, float]:
    total = sum(weights.values())
    return {leg: weight / total for leg, weight in weights.items() if weight > 0}


def fuse(
    matches: Mapping[LegName, Sequence[Match]], weights: Mapping[LegName, float]
) -> tuple[Fused, ...]:
    """Return every segment that a leg found, in the order of their ids.

    A leg that did not find a segment adds nothing to it, and a leg without weight adds nothing.
    """
    by_segment: dict[str, list[Match]] = {}
    for leg in sorted(weights):
        for match in matches.get(leg, ()):
            by_segment.setdefault(match.segment_id, []).append(match)
    return tuple(_fused(by_segment[segment_id], weights) for segment_id in sorted(by_segment))


def _fused(matches: Sequence[Match], weights: Mapping[LegName, float]) -> Fused:
    legs = tuple(
        LegScore(leg=m.leg, raw=m.raw, relevance=m.relevance, weight=weights[m.leg], rank=m.rank)
        for m in matches
    )
    return Fused(matches[0].segment_id, matches[0].video_id, legs, fusion_of(legs))


def fusion_of(legs: Iterable[LegScore]) -> float:
    """Return the weighted sum of the legs' relevances; rounding never takes it over 1."""
    return min(1.0, sum(leg.weight * leg.relevance for leg in legs))
