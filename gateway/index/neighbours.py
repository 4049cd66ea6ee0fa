"""Pure: the true nearest neighbours of some queries, and how many of them a search found."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import FloatArray


class Neighbours:
    """The `k` rows with the highest cosine to each query, among all rows that were added.

    Args:
        queries: (queries, width), unit rows.
        k: neighbours of each.
    """

    def __init__(self, queries: FloatArray, k: int) -> None:
        self._queries = queries
        self._k = k
        self._scores: FloatArray = np.empty((len(queries), 0), np.float32)
        self._ids: NDArray[np.object_] = np.empty((len(queries), 0), object)

    def add(self, ids: Sequence[str], vectors: FloatArray) -> None:
        """Weigh up more rows.

        Args:
            ids: of the rows.
            vectors: (rows, width), unit rows.
        """
        scores = np.concatenate([self._scores, self._queries @ vectors.T], axis=1)
        fresh = np.broadcast_to(np.array(ids, object), (len(self._queries), len(ids)))
        names = np.concatenate([self._ids, fresh], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : self._k]  # (queries, k)
        self._scores = np.take_along_axis(scores, best, axis=1)
        self._ids = np.take_along_axis(names, best, axis=1)

    def ids(self) -> list[list[str]]:
        """Return each query's neighbours, nearest first; fewer than `k` where there are fewer."""
        return [list(map(str, row)) for row in self._ids]


def recall(found: Sequence[str], truth: Sequence[str]) -> float:
    """Return the share of the true neighbours that a search found; 1 where there are none."""
    return len(set(found) & set(truth)) / len(set(truth)) if truth else 1.0


def mean_recall(found: Sequence[Sequence[str]], truth: Sequence[Sequence[str]]) -> float:
    """Return the mean recall over some queries; 1 where there are none."""
    shares = [recall(one, other) for one, other in zip(found, truth, strict=True)]
    return float(np.mean(shares)) if shares else 1.0


def overlap(one: Sequence[str], other: Sequence[str], k: int) -> float:
    """Return the share of the first `k` that two answers have in common; 1 where both are empty."""
    first, second = set(one[:k]), set(other[:k])
    longest = max(len(first), len(second))
    return len(first & second) / longest if longest else 1.0
