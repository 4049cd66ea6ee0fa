"""Raw scores to relevances: what a cosine or a BM25 score means, from 0 to 1. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ensembles.bundle import Band
from gateway.errors import ConfigurationError
from gateway.index.rows import Candidate
from gateway.schemas import LegName


@dataclass(frozen=True)
class Match:
    """One segment that a leg found, with what its score means."""

    segment_id: str
    video_id: str
    leg: LegName
    raw: float
    relevance: float  # 0…1
    rank: int  # 1 is the leg's best


def relevance(raw: float, band: Band) -> float:
    """Return where a raw score lies in its band: 0 up to `low`, 1 from `high` on.

    Raises:
        ConfigurationError: the band is empty.
    """
    if not band.low < band.high:
        raise ConfigurationError(f"a calibration band must rise, got {band.low} to {band.high}")
    return min(1.0, max(0.0, (raw - band.low) / (band.high - band.low)))


def calibrate(
    found: Mapping[LegName, Sequence[Candidate]],
    bands: Mapping[str, Band],
    by_words: Collection[LegName] = (),
) -> dict[LegName, tuple[Match, ...]]:
    """Return each leg's matches; candidates that are not relevant at all are left out.

    Words are never as near to pixels or sounds as those are to each other, so a leg that compares
    them has a band of its own, `visual_by_words`, where the bundle has measured one.

    Args:
        found: each leg's candidates.
        bands: a leg's band by its name, as the bundle has them.
        by_words: the legs of pixels or sounds that were searched with words.

    Raises:
        ConfigurationError: a leg has no band.
    """
    return {
        leg: _matches(leg, candidates, _band(leg, bands, leg in by_words))
        for leg, candidates in found.items()
    }


def _matches(leg: LegName, candidates: Sequence[Candidate], band: Band) -> tuple[Match, ...]:
    best_first = sorted(candidates, key=lambda candidate: (-candidate.raw, candidate.segment_id))
    matches = (
        Match(c.segment_id, c.video_id, leg, c.raw, relevance(c.raw, band), rank)
        for rank, c in enumerate(best_first, 1)
    )
    return tuple(match for match in matches if match.relevance > 0)


def _band(leg: LegName, bands: Mapping[str, Band], by_words: bool) -> Band:
    if by_words and f"{leg}_by_words" in bands:
        return bands[f"{leg}_by_words"]
    if leg not in bands:
        raise ConfigurationError(
            f"the bundle has no calibration of the leg {leg}, only of {', '.join(sorted(bands))}: "
            "export it again"
        )
    return bands[leg]
