"""Entries that are like each other: near-duplicates become one, and diversity parts them. Pure."""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from gateway.schemas import LegName
from gateway.search.group import Entry

MAX_COMPARED = 50  # entries, from the best one on; those after them keep their places
DUPLICATE_COSINE = 0.97  # in every leg that either has: copies, cuts and other encodings
ABSENT = -1.0  # the cosine of segments that no leg has both of

Vectors = Mapping[LegName, Mapping[str, FloatArray]]  # unit vectors by leg and segment id


def cosines(ids: Sequence[str], vectors: Vectors) -> tuple[FloatArray, FloatArray]:
    """Return the mean and the least cosine of each two segments over the legs.

    Args:
        ids: of n segments.
        vectors: of theirs, where a leg has one.

    Returns:
        Two arrays of shape (n, n). Where just one of two segments has a leg, their least cosine is
        ABSENT: a silent copy is not the same. Where they share none, their mean is ABSENT too.
    """
    count = len(ids)
    total, shared = np.zeros((count, count), np.float32), np.zeros((count, count), np.float32)
    least = np.ones((count, count), np.float32)
    for of_leg in vectors.values():
        has = np.array([segment_id in of_leg for segment_id in ids])
        if not has.any():
            continue
        rows = np.stack([of_leg[segment_id] for segment_id in ids if segment_id in of_leg])
        found = np.full((count, count), ABSENT, np.float32)
        found[np.ix_(has, has)] = rows @ rows.T
        both, either = np.outer(has, has), has[:, None] | has[None, :]
        total[both] += found[both]
        shared += both
        least[either] = np.minimum(least, found)[either]
    mean = np.where(shared > 0, total / np.maximum(shared, 1), ABSENT).astype(np.float32)
    return mean, np.where(shared > 0, least, ABSENT).astype(np.float32)


def collapse(entries: Sequence[Entry], vectors: Vectors) -> tuple[Entry, ...]:
    """Return the entries without near-duplicates of a better one, which names their videos.

    Segments of one video are never duplicates: what a video shows twice is two moments of it.
    """
    compared, rest = entries[:MAX_COMPARED], entries[MAX_COMPARED:]
    _, least = cosines(_best_of(compared), vectors)
    kept: list[int] = []
    copies: dict[int, list[str]] = {}
    for place, entry in enumerate(compared):
        original = next(
            (
                other
                for other in kept
                if least[other, place] >= DUPLICATE_COSINE
                and compared[other].video_id != entry.video_id
            ),
            None,
        )
        if original is None:
            kept.append(place)
        else:
            copies.setdefault(original, []).append(entry.video_id)
    shown = (
        msgspec.structs.replace(
            compared[place], duplicates=tuple(dict.fromkeys(copies.get(place, ())))
        )
        for place in kept
    )
    return (*shown, *rest)


def diversify(entries: Sequence[Entry], vectors: Vectors, diversity: float) -> tuple[Entry, ...]:
    """Return the entries in the order of maximal marginal relevance; the best one stays first.

    Each place goes to the entry with the highest `(1 - diversity) × score / best score - diversity
    × cosine`, where the cosine is to the most similar entry before it (Carbonell and Goldstein
    1998).

    Args:
        entries: best first.
        vectors: of their best segments.
        diversity: 0 leaves the order as it is; 1 looks at nothing but difference.
    """
    compared, rest = entries[:MAX_COMPARED], entries[MAX_COMPARED:]
    if not compared or diversity <= 0:
        return tuple(entries)
    mean, _ = cosines(_best_of(compared), vectors)
    scores = np.array([entry.score for entry in compared])
    relevance = (1 - diversity) * scores / max(scores[0], np.finfo(float).tiny)
    order, left = [0], list(range(1, len(compared)))
    nearest = mean[0].copy()  # of each entry to those that have a place already
    while left:
        best = max(left, key=lambda place: (relevance[place] - diversity * nearest[place], -place))
        order.append(best)
        left.remove(best)
        nearest = np.maximum(nearest, mean[best])
    return (*(compared[place] for place in order), *rest)


def _best_of(entries: Sequence[Entry]) -> list[str]:
    return [entry.best.segment_id for entry in entries]
