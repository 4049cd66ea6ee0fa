"""The highest rate that holds the SLO: doubled until it breaks, then halved in between. Pure.

A trial that broke is tried once more before it counts, one whose generator was late is too, and so
is the rate that is reported: on a shared machine one bad half-minute is not the server's capacity.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import msgspec

from loadtest.harness.results import Verdict

CONFIRMATIONS = 2  # trials that the reported rate must have held
TRIES = 2  # trials until a rate counts as broken, or as more than the generator can do
MAX_TRIALS = 40
LOWEST_SHARE = 64  # the first rate through this is the lowest that is tried


class Trial(msgspec.Struct, frozen=True, kw_only=True):
    """One run at one rate."""

    rate_per_s: float
    verdict: Verdict
    why: tuple[str, ...]
    answered_per_s: float
    p50_ms: float | None
    p99_ms: float | None
    degraded_share: float
    failed: int
    lateness_ms_p99: float


@dataclass(frozen=True)
class Search:
    """What is searched, and how far it is.

    Args:
        first_per_s: where it begins.
        most_per_s: rates over this are not tried.
        precision: the answer is within this share of the truth.
        trials: so far.
        least_per_s: rates under this are not tried.
    """

    first_per_s: float
    most_per_s: float
    precision: float
    trials: tuple[Trial, ...] = ()
    least_per_s: float = 0.0

    @property
    def highest_held_per_s(self) -> float | None:
        """The highest rate that held, and did not break more often."""
        held = [rate for rate in self._rates() if self._held(rate)]
        low = self.lowest_broken_per_s
        return max((rate for rate in held if low is None or rate < low), default=None)

    @property
    def lowest_broken_per_s(self) -> float | None:
        """The lowest rate that counts as broken."""
        return min((rate for rate in self._rates() if self._broken(rate)), default=None)

    @property
    def invalid(self) -> Trial | None:
        """The trial whose generator failed a rate once too often: nothing can be said above it."""
        failed = [t for t in self.trials if t.verdict == "invalid"]
        return next((t for t in failed if self._count(t.rate_per_s, "invalid") >= TRIES), None)

    def next_rate(self) -> float | None:
        """Return the rate to try next; None when the search is over."""
        if self.invalid is not None or len(self.trials) >= MAX_TRIALS:
            return None
        for rate in self._rates():
            missed = self._count(rate, "broken") + self._count(rate, "invalid")
            if 0 < missed < TRIES and not self._held(rate):
                return rate  # was that chance?
        held, broken = self.highest_held_per_s, self.lowest_broken_per_s
        if broken is None:
            if held is None:
                return self.first_per_s
            return min(held * 2, self.most_per_s) if held < self.most_per_s else self._confirm(held)
        if held is None:
            least = max(self.least_per_s, self.first_per_s / LOWEST_SHARE)
            return broken / 2 if broken / 2 >= least else None
        if broken / held > 1 + self.precision:
            return sqrt(held * broken)
        return self._confirm(held)

    def _confirm(self, rate: float) -> float | None:
        return rate if self._count(rate, "held") < CONFIRMATIONS else None

    def _rates(self) -> list[float]:
        return sorted({trial.rate_per_s for trial in self.trials})

    def _count(self, rate: float, verdict: Verdict) -> int:
        return sum(t.rate_per_s == rate and t.verdict == verdict for t in self.trials)

    def _held(self, rate: float) -> bool:
        held = self._count(rate, "held")
        return held > 0 and held >= self._count(rate, "broken")

    def _broken(self, rate: float) -> bool:
        broken = self._count(rate, "broken")
        return (broken >= TRIES and broken > self._count(rate, "held")) or (
            broken > 0 and broken > self._count(rate, "held") and self._count(rate, "held") > 0
        )


def rounded(rate: float) -> float:
    """Return a rate as people write it: three digits."""
    return float(f"{rate:.3g}")


def trial_rows(trials: Sequence[Trial]) -> tuple[tuple[str, ...], ...]:
    """Return the trials as rows for a table, in their order."""
    return tuple(
        (
            f"{t.rate_per_s:g}",
            f"{t.answered_per_s:.1f}",
            "–" if t.p50_ms is None else f"{t.p50_ms:.1f}",
            "–" if t.p99_ms is None else f"{t.p99_ms:.1f}",
            f"{t.degraded_share:.2%}",
            str(t.failed),
            f"{t.lateness_ms_p99:.1f}",
            t.verdict if t.verdict == "held" else f"{t.verdict}: {'; '.join(t.why)}",
        )
        for t in trials
    )


TRIAL_COLUMNS = (
    *("offered/s", "answered/s", "p50, ms", "p99, ms", "degraded", "failed"),
    *("generator late p99, ms", "verdict"),
)
