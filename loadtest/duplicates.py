"""How many copies, and how many different segments, are taken for near-duplicates. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from gateway.search.similar import ABSENT, DUPLICATE_COSINE, Vectors, cosines

TRIED = (0.95, 0.96, DUPLICATE_COSINE, 0.98, 0.985, 0.99)  # least cosines of two segments


class Rate(msgspec.Struct, frozen=True):
    """What one threshold takes for near-duplicates."""

    least_cosine: float
    copies_found: int
    others_taken: int  # pairs of different segments of different videos


class DuplicatesReport(msgspec.Struct, frozen=True):
    """What each threshold takes for near-duplicates, in one made-up set and its copies."""

    model_version: str
    seed: int
    segments: int
    copies: int  # segments that were written again
    others: int  # pairs of different segments of different videos
    rates: tuple[Rate, ...]


def rates_of(copies: FloatArray, others: FloatArray) -> tuple[Rate, ...]:
    """Return what each threshold of TRIED takes.

    Args:
        copies: the least cosine over the legs of each segment with its copy.
        others: that of each pair of different segments.
    """
    return tuple(
        Rate(least, int((copies >= least).sum()), int((others >= least).sum())) for least in TRIED
    )


def least_of_copies(
    copies: Sequence[tuple[Sequence[str], Sequence[str]]], vectors: Vectors
) -> FloatArray:
    """Return the highest least cosine of each moment's segments with those of its copy.

    Args:
        copies: of each moment the ids of the segments over it, and of those over its copy.
        vectors: of all of them, by leg.
    """
    found = []
    for originals, again in copies:
        _, least = cosines([*originals, *again], vectors)
        between = least[: len(originals), len(originals) :]
        found.append(float(between.max(initial=ABSENT)))
    return np.array(found, np.float32)


def least_of_others(segment_ids: Sequence[str], vectors: Vectors) -> FloatArray:
    """Return the least cosine of each two segments that are of different videos."""
    _, least = cosines(segment_ids, vectors)
    videos = np.array([segment_id.rpartition("-")[0] for segment_id in segment_ids])
    first, second = np.nonzero(np.triu(videos[:, None] != videos[None, :]))
    return np.asarray(least[first, second], np.float32)


def duplicates_lines(report: DuplicatesReport) -> list[str]:
    """Return the report in words."""
    head = (
        f"{report.model_version}, seed {report.seed}: {report.copies} segments written again at "
        f"half the quality,",
        f"{report.others:,} pairs of different segments of {report.segments}. Taken for the same:",
    )
    lines = (
        f"  from a cosine of {rate.least_cosine:g} on: {rate.copies_found / report.copies:.0%} of "
        f"the copies, {rate.others_taken} other pairs"
        + (" (a search's)" if rate.least_cosine == DUPLICATE_COSINE else "")
        for rate in report.rates
    )
    return [*head, *lines]
