"""Percentiles of measured times. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np


class Latencies(msgspec.Struct, frozen=True):
    """The distribution of a run's times, in milliseconds."""

    count: int
    ms_p50: float
    ms_p95: float
    ms_p99: float
    ms_max: float


def latencies(seconds: Sequence[float]) -> Latencies:
    """Summarise times in seconds; a percentile is a time that was measured, never between two.

    Raises:
        ValueError: there is no time.
    """
    if not seconds:
        raise ValueError("no times were measured")
    p50, p95, p99, longest = np.percentile(seconds, [50, 95, 99, 100], method="higher") * 1_000
    return Latencies(len(seconds), float(p50), float(p95), float(p99), float(longest))
