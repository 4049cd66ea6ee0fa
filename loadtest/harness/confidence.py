"""How sure a figure is: intervals for shares and percentiles. Pure, seeded."""

from collections.abc import Callable, Sequence
from math import sqrt

import numpy as np
from hdrh.histogram import HdrHistogram

from loadtest.harness.histograms import HIGHEST_US, merged, percentile_ms

Z_95 = 1.959963984540054
RESAMPLES = 2_000
BLOCK_S = 5  # seconds that are drawn together: neighbours are alike, so one second is no new fact
SEED = 17

Interval = tuple[float, float]


def wilson(successes: int, count: int) -> Interval:
    """Return the 95 % interval of a share (Wilson 1927); (0, 1) where nothing was counted."""
    if count == 0:
        return (0.0, 1.0)
    share, z2 = successes / count, Z_95 * Z_95
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = Z_95 * sqrt(share * (1 - share) / count + z2 / (4 * count * count)) / (1 + z2 / count)
    return (max(0.0, centre - half), min(1.0, centre + half))


def share_difference(a: tuple[int, int], b: tuple[int, int]) -> Interval:
    """Return the 95 % interval of share b less share a (Newcombe 1998, method 10).

    Args:
        a: successes and count of the one.
        b: of the other.
    """
    (low_a, high_a), (low_b, high_b) = wilson(*a), wilson(*b)
    share_a, share_b = a[0] / max(a[1], 1), b[0] / max(b[1], 1)
    difference = share_b - share_a
    low = difference - sqrt((share_b - low_b) ** 2 + (high_a - share_a) ** 2)
    high = difference + sqrt((high_b - share_b) ** 2 + (share_a - low_a) ** 2)
    return (low, high)


def ratio_interval(
    a: Sequence[HdrHistogram], b: Sequence[HdrHistogram], percent: float
) -> Interval | None:
    """Return the 95 % interval of b's percentile as a multiple of a's: a block bootstrap.

    Whole blocks of BLOCK_S neighbouring seconds are drawn with replacement (Künsch 1989), because
    latencies of one second resemble each other and would feign certainty if drawn one by one.

    Args:
        a: the intervals of one run, a second each.
        b: of the other.
        percent: 0…100.

    Returns:
        None where a run has fewer than two blocks, which say nothing of their spread.
    """
    blocks_a, blocks_b = _blocks(a), _blocks(b)
    if min(len(blocks_a), len(blocks_b)) < 2:
        return None
    rng = np.random.default_rng(SEED)
    drawn_a, drawn_b = _resampler(blocks_a, percent, rng), _resampler(blocks_b, percent, rng)
    ratios = [drawn_b() / drawn_a() for _ in range(RESAMPLES)]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return (float(low), float(high))


def _blocks(intervals: Sequence[HdrHistogram]) -> list[HdrHistogram]:
    starts = range(0, len(intervals) - len(intervals) % BLOCK_S, BLOCK_S)
    return [merged(intervals[start : start + BLOCK_S]) for start in starts]


def _resampler(
    blocks: Sequence[HdrHistogram], percent: float, rng: np.random.Generator
) -> Callable[[], float]:
    """Return a function that draws blocks and tells the percentile of what it drew."""
    values = [_values_us(block) for block in blocks]
    edges = np.unique(np.concatenate(values))
    table = np.stack(
        [np.bincount(np.searchsorted(edges, v), minlength=len(edges)) for v in values]
    )  # (blocks, values)

    def draw() -> float:
        chosen = rng.integers(0, len(blocks), len(blocks))
        weights = np.bincount(chosen, minlength=len(blocks)) @ table  # (values,)
        cumulative = np.cumsum(weights)
        rank = max(1.0, np.ceil(percent / 100 * cumulative[-1]))
        return float(edges[np.searchsorted(cumulative, rank)])

    return draw


def _values_us(histogram: HdrHistogram) -> "np.ndarray[tuple[int], np.dtype[np.int64]]":
    """Return all values of a histogram, ascending, in microseconds."""
    items = [
        (item.value_iterated_to, item.count_added_in_this_iter_step)
        for item in histogram.get_recorded_iterator()
    ]
    values = np.array([min(value, HIGHEST_US) for value, _ in items], dtype=np.int64)
    return np.repeat(values, [count for _, count in items])


def percentile_interval_ms(histogram: HdrHistogram, percent: float) -> Interval | None:
    """Return the 95 % interval of a percentile by its order statistics (binomial, normal approx.).

    None where there are too few values for one.
    """
    count = int(histogram.get_total_count())
    share = percent / 100
    spread = Z_95 * sqrt(count * share * (1 - share))
    low, high = count * share - spread, count * share + spread + 1
    if count == 0 or low < 1 or high > count:
        return None
    return (
        percentile_ms(histogram, 100 * low / count),
        percentile_ms(histogram, 100 * high / count),
    )
