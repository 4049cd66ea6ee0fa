"""Raw scores to relevances: what a cosine or a BM25 score means, from 0 to 1. Pure."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from ensembles.bundle import Band
from gateway.errors import ConfigurationError
from gateway.index.rows import Candidate
from gateway.schemas import LegName

# Bands of a leg's that strengths tell apart. Of the made-up sets' sound queries four segments in a
# thousand are over the band; where they were all as good as each other, the right one was lost.
HEADROOM = 1.75


class Match(msgspec.Struct, frozen=True, gc=False):
    """One segment that a leg found, with what its score means."""

    segment_id: str
    video_id: str
    leg: LegName
    raw: float
    relevance: float  # 0…1
    evidence: float  # 0…1, for the cut-off
    strength: float  # 0…1, what is fused: as relevance, but sure answers differ still
    rank: int  # 1 is the leg's best


class Judged(msgspec.Struct, frozen=True, gc=False):
    """What a leg that searched with several inputs says of one segment."""

    relevance: float  # 0…1, the mean of the inputs' by their shares
    strength: float  # the same of their strengths
    evidence: float  # 0…1, that one input at least is answered: the noisy or of their relevances


def relevance(raw: float, band: Band) -> float:
    """Return where a raw score lies in its band: 0 up to `low`, 1 from `high` on.

    Raises:
        ConfigurationError: the band is empty.
    """
    return min(1.0, _place(raw, band))


def strength(raw: float, band: Band) -> float:
    """Return where a raw score lies between `low` and HEADROOM bands above it, 0…1.

    Raises:
        ConfigurationError: the band is empty.
    """
    return min(1.0, _place(raw, band) / HEADROOM)


def _place(raw: float, band: Band) -> float:
    if not band.low < band.high:
        raise ConfigurationError(f"a calibration band must rise, got {band.low} to {band.high}")
    return max(0.0, (raw - band.low) / (band.high - band.low))


def calibrate(
    found: Mapping[LegName, Sequence[Candidate]],
    bands: Mapping[str, Band],
    judged: Mapping[str, Mapping[str, Judged]] = MappingProxyType({}),
) -> dict[LegName, tuple[Match, ...]]:
    """Return each leg's matches; candidates that are not relevant at all are left out.

    Args:
        found: each leg's candidates.
        bands: a leg's by its name, each for what it was searched with (`mix.band_of`).
        judged: by leg and segment, where several inputs were judged each for itself; a segment that
            is not there has the relevance of its raw score.
    """
    return {
        leg: _matches(leg, candidates, bands[leg], judged.get(leg, {}))
        for leg, candidates in found.items()
    }


def _matches(
    leg: LegName, candidates: Sequence[Candidate], band: Band, judged: Mapping[str, Judged]
) -> tuple[Match, ...]:
    """Return the matches, best first."""
    told = [(judged.get(c.segment_id) or _by_raw(c.raw, band), c) for c in candidates]
    found = [one for one in told if one[0].strength > 0]
    found.sort(key=lambda one: (-one[0].strength, -one[1].raw, one[1].segment_id))
    return tuple(
        Match(
            c.segment_id,
            c.video_id,
            leg,
            c.raw,
            told.relevance,
            told.evidence,
            told.strength,
            rank,
        )
        for rank, (told, c) in enumerate(found, 1)
    )


def _by_raw(raw: float, band: Band) -> Judged:
    place = _place(raw, band)
    alone = min(1.0, place)
    return Judged(alone, min(1.0, place / HEADROOM), alone)
