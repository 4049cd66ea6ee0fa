"""A run second by second, and when it was well again after a fault. Pure."""

from collections.abc import Sequence

import msgspec
import numpy as np

from loadtest.harness.records import Outcome, Records

WELL_SHARE = 0.95  # whole answers in a second, so that it counts as well
STEADY_S = 3  # seconds in a row that must be well for a recovery


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """One value a second of the measured part; requests count in the second they were due."""

    offered: tuple[int, ...]
    ok: tuple[int, ...]
    degraded: tuple[int, ...]
    failed: tuple[int, ...]
    hung: tuple[int, ...]
    completed: tuple[int, ...]  # answers by the second in which they came
    p50_ms: tuple[float | None, ...]  # of the answered; None where there is none
    p99_ms: tuple[float | None, ...]

    def well(self) -> list[bool | None]:
        """Tell of each second whether it was well; None where nothing was asked."""
        return [
            None if offered == 0 else ok >= WELL_SHARE * offered
            for ok, offered in zip(self.ok, self.offered, strict=True)
        ]


def series_of(records: Records, seconds: int) -> Series:
    """Count records without warm-up into `seconds` cells; what is beyond counts in the last."""
    cells = np.minimum(np.floor(records["scheduled_s"]).astype(int), seconds - 1)
    outcomes = records["outcome"]

    def count(chosen: "np.ndarray[tuple[int], np.dtype[np.bool_]]") -> tuple[int, ...]:
        return tuple(int(n) for n in np.bincount(cells[chosen], minlength=seconds))

    got = outcomes <= Outcome.DEGRADED
    ends = np.floor(records["scheduled_s"] + records["latency_s"]).astype(int)
    inside = got & (ends < seconds)
    completed = np.bincount(ends[inside], minlength=seconds)
    return Series(
        offered=count(np.ones(len(records), dtype=bool)),
        ok=count(outcomes == Outcome.OK),
        degraded=count(outcomes == Outcome.DEGRADED),
        failed=count(outcomes == Outcome.FAILED),
        hung=count(outcomes == Outcome.HUNG),
        completed=tuple(int(n) for n in completed),
        p50_ms=_percentiles(cells[got], records["latency_s"][got], seconds, 50),
        p99_ms=_percentiles(cells[got], records["latency_s"][got], seconds, 99),
    )


def _percentiles(
    cells: "np.ndarray[tuple[int], np.dtype[np.int_]]",
    seconds: "np.ndarray[tuple[int], np.dtype[np.float64]]",
    count: int,
    percent: int,
) -> tuple[float | None, ...]:
    order = np.argsort(cells, kind="stable")
    parts = np.split(seconds[order], np.searchsorted(cells[order], np.arange(1, count)))
    return tuple(
        float(np.percentile(part, percent, method="higher") * 1_000) if part.size else None
        for part in parts
    )


def recovery_s(well: Sequence[bool | None], from_s: float, until_s: float) -> float | None:
    """Return how long after `from_s` full quality was back for good measure.

    That is the start of the first STEADY_S seconds in a row that were well (seconds without
    requests say nothing and are passed over). 0.0: it was never away.

    Args:
        well: of each second of the run.
        from_s: when the fault ended, or struck.
        until_s: when the next fault strikes, or the run ends.

    Returns:
        None where it did not come back by `until_s`.
    """
    asked = [
        (second, state)
        for second, state in enumerate(well)
        if state is not None and second + 1 > from_s and second < until_s
    ]
    run_start, length = 0.0, 0
    for second, state in asked:
        if not state:
            length = 0
            continue
        run_start = float(second) if length == 0 else run_start
        length += 1
        if length == STEADY_S:
            return max(0.0, run_start - from_s)
    return None
