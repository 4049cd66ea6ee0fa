"""The door to HdrHistogram: latencies in microseconds at three significant digits, mergeable.

Files are in HdrHistogram's own log format, one interval a second, so that its other tools read
them: https://github.com/HdrHistogram/HdrHistogram.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import ceil
from pathlib import Path

import numpy as np
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader, HistogramLogWriter

from ensembles.arrays import Float64Array

LOWEST_US = 1
HIGHEST_US = 24 * 3600 * 1_000_000  # a day
SIGNIFICANT_DIGITS = 3  # so a percentile is at most 0.1 % off

PERCENTILES: Mapping[str, float] = {
    "p50": 50.0,
    "p90": 90.0,
    "p95": 95.0,
    "p99": 99.0,
    "p99.9": 99.9,
    "max": 100.0,
}


def empty() -> HdrHistogram:
    """Return a histogram without values."""
    return HdrHistogram(LOWEST_US, HIGHEST_US, SIGNIFICANT_DIGITS)


def histogram_of(seconds: Float64Array) -> HdrHistogram:
    """Return the histogram of times in seconds; what is beyond the limits counts at the limit."""
    made = empty()
    microseconds = np.clip(np.rint(seconds * 1e6), LOWEST_US, HIGHEST_US).astype(np.int64)
    for value, count in zip(*np.unique(microseconds, return_counts=True), strict=True):
        made.record_value(int(value), int(count))
    return made


def merged(histograms: Iterable[HdrHistogram]) -> HdrHistogram:
    """Return the sum of histograms."""
    total = empty()
    for histogram in histograms:
        total.add(histogram)
    return total


def percentile_ms(histogram: HdrHistogram, percent: float) -> float:
    """Return a percentile in milliseconds: a value that was recorded; NaN where there is none.

    The library rounds the rank to the nearest one. A percentile is the value that at least so many
    do not exceed, so the rank is rounded up here and passed as the percentage that it is.
    """
    count = int(histogram.get_total_count())
    if not count:
        return float("nan")
    rank = max(1, ceil(percent / 100 * count - 1e-9))
    return float(histogram.get_value_at_percentile(100 * rank / count)) / 1_000


def percentiles_ms(histogram: HdrHistogram) -> dict[str, float]:
    """Return PERCENTILES in milliseconds; empty where there is no value."""
    if not histogram.get_total_count():
        return {}
    return {name: percentile_ms(histogram, percent) for name, percent in PERCENTILES.items()}


def curve_ms(histogram: HdrHistogram, points: int = 200) -> list[tuple[float, float]]:
    """Return (percentile, ms) pairs, evenly spread over the number of nines, for a plot."""
    count = int(histogram.get_total_count())
    if not count:
        return []
    nines = np.linspace(0.0, np.log10(max(count, 2)), points)  # 1 - 10^-nines
    percents = 100.0 * (1.0 - 10.0**-nines)
    return [(float(percent), percentile_ms(histogram, float(percent))) for percent in percents]


def write_log(path: Path, intervals: Sequence[tuple[float, HdrHistogram]], epoch_s: float) -> None:
    """Write a log of one-second intervals.

    Args:
        path: of the file.
        intervals: when each starts, in seconds from the run's start, and its histogram.
        epoch_s: when the run started, in seconds since the epoch.
    """
    with path.open("w", encoding="utf-8") as file:
        writer = HistogramLogWriter(file)
        writer.output_comment("[pixserve loadtest: latencies in microseconds]")
        writer.output_log_format_version()
        writer.output_base_time(epoch_s * 1_000)
        writer.output_legend()
        for start_s, histogram in intervals:
            histogram.set_start_time_stamp(start_s * 1_000)
            histogram.set_end_time_stamp((start_s + 1) * 1_000)
            writer.output_interval_histogram(histogram, max_value_unit_ratio=1_000)


def read_log(path: Path) -> list[HdrHistogram]:
    """Read the intervals of a log.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no such log.
    """
    reader = HistogramLogReader(str(path), empty())
    intervals = []
    try:
        while (interval := reader.get_next_interval_histogram()) is not None:
            intervals.append(interval)
    except Exception as error:  # the library raises whatever base64, zlib and ctypes raise
        raise ValueError(f"{path} is no histogram log: {error}") from error
    finally:
        reader.input_file.close()
    return intervals


def per_second(
    scheduled_s: Float64Array, latency_s: Float64Array
) -> list[tuple[float, HdrHistogram]]:
    """Return one histogram for each second in which requests were scheduled, by that second."""
    seconds = np.floor(scheduled_s).astype(np.int64)
    return [
        (float(second), histogram_of(latency_s[seconds == second])) for second in np.unique(seconds)
    ]
