"""How well queries were answered, and how sure that is: ranks to figures with intervals. Pure.

A rank is the place of a query's one right answer: 1 is the best, 0 (`MISSED`) is none. Intervals
are percentile bootstraps over the queries (Efron 1979); two runs are compared on the same queries
by a paired bootstrap (Berg-Kirkpatrick, Burkett and Klein 2012).
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from ensembles.arrays import Float64Array
from gateway.errors import InvalidRequest

MISSED = 0  # the rank of an answer that did not come
RESAMPLES = 2_000
SEED = 17
CONFIDENCE = 0.95
TAILS_PERCENT = (100 * (1 - CONFIDENCE) / 2, 100 * (1 + CONFIDENCE) / 2)
NDCG_DEPTH = 10


class Interval(msgspec.Struct, frozen=True):
    """A mean with its 95 % interval."""

    mean: float
    low: float
    high: float


class Measures(msgspec.Struct, frozen=True):
    """How well a set of queries was answered."""

    queries: int
    recall_1: Interval
    recall_5: Interval
    recall_10: Interval
    mrr: Interval
    ndcg_10: Interval


class Comparison(msgspec.Struct, frozen=True):
    """One run against another on the same queries."""

    queries: int
    difference: Interval  # of the means: first less second
    relative: Interval | None  # of the means: first / second - 1; None where the second has none
    p_value: float  # of the resamples, the share in which the first is not better

    @property
    def is_better(self) -> bool:
        """Whether the first is above the second with its whole interval."""
        return self.difference.low > 0


def recall_at(ranks: Sequence[int], depth: int) -> Float64Array:
    """Return 1 for each query whose answer is among the first `depth`, else 0: (queries,)."""
    found = np.asarray(ranks, np.int64)
    return ((found > MISSED) & (found <= depth)).astype(np.float64)


def reciprocal_ranks(ranks: Sequence[int]) -> Float64Array:
    """Return 1 / rank for each query, 0 where it was missed: (queries,)."""
    found = np.asarray(ranks, np.float64)
    return np.divide(1.0, found, out=np.zeros_like(found), where=found > MISSED)


def ndcg_at(ranks: Sequence[int], depth: int = NDCG_DEPTH) -> Float64Array:
    """Return each query's nDCG with one right answer: 1 / log2(1 + rank), 0 after `depth`.

    Source: Järvelin and Kekäläinen 2002; the ideal order has gain 1.
    """
    found = np.asarray(ranks, np.float64)
    inside = (found > MISSED) & (found <= depth)
    return np.divide(1.0, np.log2(1.0 + found), out=np.zeros_like(found), where=inside)


def interval(values: Float64Array, *, seed: int = SEED, resamples: int = RESAMPLES) -> Interval:
    """Return the mean of (queries,) values with its bootstrap interval.

    Raises:
        InvalidRequest: there are no values.
    """
    _check_some(len(values))
    return _interval(float(values.mean()), _resampled(values[None], seed, resamples)[0])


def measure(ranks: Sequence[int], *, seed: int = SEED, resamples: int = RESAMPLES) -> Measures:
    """Return recall@1, 5 and 10, MRR and nDCG@10 of queries' ranks, each with its interval.

    Raises:
        InvalidRequest: there are no queries.
    """
    _check_some(len(ranks))
    rows = np.stack(
        [recall_at(ranks, 1), recall_at(ranks, 5), recall_at(ranks, 10),
         reciprocal_ranks(ranks), ndcg_at(ranks)]
    )  # fmt: skip
    means = _resampled(rows, seed, resamples)
    found = [_interval(float(row.mean()), drawn) for row, drawn in zip(rows, means, strict=True)]
    return Measures(len(ranks), *found)


def compare(
    first: Float64Array, second: Float64Array, *, seed: int = SEED, resamples: int = RESAMPLES
) -> Comparison:
    """Compare two runs' values of the same queries by a paired bootstrap.

    Args:
        first: (queries,) of the run that may be better.
        second: (queries,) of the other one, in the same order.
        seed: of the resampling.
        resamples: how many.

    Raises:
        InvalidRequest: there are no values, or not as many of each.
    """
    _check_some(len(first))
    if len(first) != len(second):
        raise InvalidRequest(
            f"{len(first)} and {len(second)} values: a paired comparison needs the same queries"
        )
    ours, theirs = _resampled(np.stack([first, second]), seed, resamples)
    difference = ours - theirs
    return Comparison(
        queries=len(first),
        difference=_interval(float(first.mean() - second.mean()), difference),
        relative=_relative(first, second, ours, theirs),
        p_value=float((difference <= 0).mean()),
    )


def compare_runs(first: Mapping[str, int], second: Mapping[str, int]) -> Comparison:
    """Compare the nDCG@10 of two runs' ranks on the queries that both have, by name.

    Raises:
        InvalidRequest: they have no query in common.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise InvalidRequest("the two runs have no query in common: they are of different sets")
    return compare(
        ndcg_at([first[name] for name in shared]), ndcg_at([second[name] for name in shared])
    )


def _relative(
    first: Float64Array, second: Float64Array, ours: Float64Array, theirs: Float64Array
) -> Interval | None:
    if second.mean() <= 0 or (theirs <= 0).any():
        return None
    return _interval(float(first.mean() / second.mean() - 1), ours / theirs - 1)


def _resampled(rows: Float64Array, seed: int, resamples: int) -> Float64Array:
    """Return the means of resampled columns, the same ones for each row: (rows, resamples)."""
    count = rows.shape[1]
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(count, np.full(count, 1 / count), size=resamples)  # times each is drawn
    means: Float64Array = rows @ drawn.T / count
    return means


def _interval(mean: float, drawn: Float64Array) -> Interval:
    low, high = np.percentile(drawn, TAILS_PERCENT)
    return Interval(mean, float(low), float(high))


def _check_some(count: int) -> None:
    if not count:
        raise InvalidRequest("there are no queries to measure")
