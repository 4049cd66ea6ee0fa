"""Raw scores to relevances: what a cosine or a BM25 score means, from 0 to 1. Pure."""

from collections.abc import Mapping, Sequence
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
    found: Mapping[LegName, Sequence[Candidate]], bands: Mapping[str, Band]
) -> dict[LegName, tuple[Match, ...]]:
    """Return each leg's matches; candidates that are not relevant at all are left out.

    Args:
        found: each leg's candidates.
        bands: a leg's by its name, each for what it was searched with (`mix.band_of`).
    """
    return {leg: _matches(leg, candidates, bands[leg]) for leg, candidates in found.items()}


def _matches(leg: LegName, candidates: Sequence[Candidate], band: Band) -> tuple[Match, ...]:
    best_first = sorted(candidates, key=lambda candidate: (-candidate.raw, candidate.segment_id))
    matches = (
        Match(c.segment_id, c.video_id, leg, c.raw, relevance(c.raw, band), rank)
        for rank, c in enumerate(best_first, 1)
    )
    return tuple(match for match in matches if match.relevance > 0)
