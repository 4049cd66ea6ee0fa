"""Two runs side by side, with how sure the difference is. Pure."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from hdrh.histogram import HdrHistogram

from loadtest.harness.analysis import ALL
from loadtest.harness.confidence import Interval, ratio_interval, share_difference
from loadtest.harness.histograms import merged, percentile_ms
from loadtest.harness.report.tables import Table
from loadtest.harness.results import Figures, RunResult

COMPARED = {"p50": 50.0, "p95": 95.0, "p99": 99.0}
SAME_SHARE = 0.02  # latencies within this are no difference, however sure

Finding = Literal["better", "worse", "no difference", "cannot say"]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One figure of both runs."""

    what: str
    a: str
    b: str
    interval: str  # of b against a, 95 %
    finding: Finding


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Run b against run a."""

    differences: tuple[Difference, ...]
    warnings: tuple[str, ...]
    comparable: bool

    @property
    def exit_code(self) -> int:
        """0: nothing got worse, 1: something did, 2: a run is invalid or they share no target."""
        if not self.comparable:
            return 2
        return 1 if any(d.finding == "worse" for d in self.differences) else 0


def compare_runs(
    a: RunResult,
    b: RunResult,
    histograms_a: dict[str, list[HdrHistogram]],
    histograms_b: dict[str, list[HdrHistogram]],
) -> Comparison:
    """Compare each target that both runs have.

    Latencies: a block bootstrap of their ratio; shares: Newcombe's interval of their difference.
    """
    figures_a = {f.target: f for f in a.targets if f.target != ALL}
    figures_b = {f.target: f for f in b.targets if f.target != ALL}
    shared = [name for name in figures_a if name in figures_b]
    differences: list[Difference] = []
    for name in shared:
        differences += latency_differences(
            name, histograms_a.get(name, []), histograms_b.get(name, [])
        )
        differences += share_differences(name, figures_a[name], figures_b[name])
    invalid = [r.started_at for r in (a, b) if r.verdict == "invalid"]
    warnings = _warnings(a, b) + [f"the run of {when} is invalid" for when in invalid]
    if not shared:
        warnings.append("the runs have no target in common")
    return Comparison(
        differences=tuple(differences),
        warnings=tuple(warnings),
        comparable=bool(shared) and not invalid,
    )


def latency_differences(
    name: str, a: Sequence[HdrHistogram], b: Sequence[HdrHistogram]
) -> list[Difference]:
    """Compare the percentiles of one target."""
    if not a or not b:
        return []
    whole_a, whole_b = merged(a), merged(b)
    return [
        _latency_difference(
            f"{name} {label}",
            percentile_ms(whole_a, percent),
            percentile_ms(whole_b, percent),
            ratio_interval(a, b, percent),
        )
        for label, percent in COMPARED.items()
    ]


def _latency_difference(what: str, a: float, b: float, interval: Interval | None) -> Difference:
    if interval is None:
        shown, finding = "the runs are too short", _cannot_say()
    else:
        shown = f"× {interval[0]:.3f}…{interval[1]:.3f}"
        finding = latency_finding(b / a, interval)
    return Difference(what=what, a=f"{a:.1f} ms", b=f"{b:.1f} ms", interval=shown, finding=finding)


def _cannot_say() -> Finding:
    return "cannot say"


def latency_finding(ratio: float, interval: Interval) -> Finding:
    """Say what an interval of b/a means: sure, and large enough to matter."""
    low, high = interval
    if low > 1 and ratio > 1 + SAME_SHARE:
        return "worse"
    if high < 1 and ratio < 1 - SAME_SHARE:
        return "better"
    return "no difference"


def share_differences(name: str, a: Figures, b: Figures) -> list[Difference]:
    """Compare how many requests were answered, and how many of the answers were whole."""
    kinds = (
        ("answered", (a.answered, a.requests), (b.answered, b.requests)),
        ("whole answers", (a.ok, a.answered), (b.ok, b.answered)),
    )
    return [_share_difference(f"{name} {what}", of_a, of_b) for what, of_a, of_b in kinds]


def _share_difference(what: str, a: tuple[int, int], b: tuple[int, int]) -> Difference:
    low, high = share_difference(a, b)
    finding: Finding = "no difference"
    if low > 0:
        finding = "better"
    elif high < 0:
        finding = "worse"
    return Difference(
        what=what,
        a=f"{a[0] / max(1, a[1]):.3%}",
        b=f"{b[0] / max(1, b[1]):.3%}",
        interval=f"{low:+.3%}…{high:+.3%}",
        finding=finding,
    )


def _warnings(a: RunResult, b: RunResult) -> list[str]:
    """Name what differs in the conditions, so that a difference is not read as the product's."""
    pairs = (
        ("processor", a.machine.processor, b.machine.processor),
        ("cores", a.machine.cores, b.machine.cores),
        ("models", a.model_version, b.model_version),
        ("corpus", a.corpus, b.corpus),
        ("load", a.scenario.load, b.scenario.load),
        ("scenario", a.scenario.name, b.scenario.name),
    )
    return [f"the {what} differs: {x} and {y}" for what, x, y in pairs if x != y]


def comparison_table(comparison: Comparison) -> Table:
    """Return a comparison as a table."""
    rows = tuple((d.what, d.a, d.b, d.interval, d.finding) for d in comparison.differences)
    return Table("B against A", ("figure", "A", "B", "B against A, 95 %", "finding"), rows)
