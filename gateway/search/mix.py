"""Several vectors to the one that a leg searches with, and what they say of a segment. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Band
from gateway.errors import ConfigurationError, InvalidRequest
from gateway.schemas import LegName
from gateway.search.calibrate import Judged, relevance, strength
from gateway.search.plan import Source

MIN_LENGTH = 0.05  # of what is left of unit vectors; below it, what is left is rounding and noise


@dataclass(frozen=True)
class Part:
    """One vector of a query in the space of a leg."""

    vector: FloatArray  # (width,), unit length
    band: Band  # of the leg, for vectors that are made like this one
    share: float = 1.0  # over 0; only the ratios matter


def mix(parts: Sequence[Part], away: Sequence[Part] = ()) -> tuple[FloatArray, Band]:
    """Return the unit vector of all parts together, and the band of its cosines.

    A part's weight is its share over the width of its band, so that each part's relevance, and not
    its cosine, counts by its share: the cosines of an image spread wider than those of words. As a
    cosine with a sum is the sum of the cosines, so is its band:
    `relevance = Σ share·relevance / Σ share`, before it is cut to 0…1.

    Then the direction of each of `away` is taken out (Gram-Schmidt): nothing is found for being
    like it. Where the two point apart there is nothing to take out.

    Args:
        parts: at least one.
        away: what is not wanted.

    Returns:
        float32 of shape (width,), and its band.

    Raises:
        InvalidRequest: the parts cancel each other out, or `away` is what is asked for.
    """
    vector, band = _sum(parts)
    for part in away:
        vector, band = _without(vector, band, part)
    return vector, band


def judge(
    parts: Sequence[Part], away: Sequence[Part], stored: Mapping[str, FloatArray]
) -> dict[str, Judged]:
    """Return what several inputs say of segments, each input for itself.

    An input that is nothing like a segment says nothing, and takes nothing from what the others
    say. The cosine with their sum cannot tell that: there, how far one input is from a segment
    hides how near another is to it.

    Args:
        parts: as for `mix`.
        away: as for `mix`; taken out of each part.
        stored: the segments' own unit vectors, (width,), by id.
    """
    total = sum(part.share for part in parts)
    aims = [(part.share / total, *aim) for part in parts for aim in _alone(part, away)]
    judged = {}
    for segment_id, vector in stored.items():
        said = [(share, float(aim @ vector), band) for share, aim, band in aims]
        judged[segment_id] = Judged(
            relevance=sum(share * relevance(raw, band) for share, raw, band in said),
            strength=sum(share * strength(raw, band) for share, raw, band in said),
            evidence=1 - math.prod(1 - relevance(raw, band) for _, raw, band in said),
        )
    return judged


def _alone(part: Part, away: Sequence[Part]) -> list[tuple[FloatArray, Band]]:
    """Return what one part searches for and its band; nothing where it is what is not wanted."""
    try:
        return [mix([part], away)]
    except InvalidRequest:
        return []


def _sum(parts: Sequence[Part]) -> tuple[FloatArray, Band]:
    if len(parts) == 1:
        return parts[0].vector, parts[0].band
    weights = [part.share / (part.band.high - part.band.low) for part in parts]
    weights = [weight / sum(weights) for weight in weights]
    total = np.sum([w * part.vector for w, part in zip(weights, parts, strict=True)], axis=0)
    length = float(np.linalg.norm(total))
    if length < MIN_LENGTH:
        raise InvalidRequest("the inputs of the query cancel each other out: ask for less at once")
    low = sum(w * part.band.low for w, part in zip(weights, parts, strict=True)) / length
    high = sum(w * part.band.high for w, part in zip(weights, parts, strict=True)) / length
    return (total / length).astype(np.float32), Band(low=low, high=high)


def _without(vector: FloatArray, band: Band, away: Part) -> tuple[FloatArray, Band]:
    along = float(vector @ away.vector)
    if along <= 0:
        return vector, band
    rest = vector - along * away.vector
    length = float(np.linalg.norm(rest))
    if length < MIN_LENGTH:
        raise InvalidRequest("not: this is what is asked for, so nothing is left: change one")
    taken = along * away.band.low  # what even those segments lose that are nothing like it
    left = Band(low=(band.low - taken) / length, high=(band.high - taken) / length)
    return (rest / length).astype(np.float32), left


def band_of(leg: LegName, source: Source | None, calibration: Mapping[str, Band]) -> Band:
    """Return the band of a leg's cosines with vectors of one source; None: of its BM25 scores.

    Words are never as near to pixels or sounds as those are to each other, so they have a band of
    their own, `visual_by_words`, where the bundle has measured one.

    Raises:
        ConfigurationError: the bundle has no band of this leg, or one that does not rise.
    """
    by_words = f"{leg}_by_words" if source in ("clip", "sound_text") else leg
    band = calibration.get(by_words) or calibration.get(leg)
    if band is None:
        raise ConfigurationError(
            f"the bundle has no calibration of the leg {leg}, only of "
            f"{', '.join(sorted(calibration))}: export it again"
        )
    if not band.low < band.high:
        raise ConfigurationError(f"a calibration band must rise, got {band.low} to {band.high}")
    return band
