"""The charts of a run. Pure."""

from collections.abc import Iterable, Sequence
from itertools import groupby

from loadtest.harness.analysis import ALL
from loadtest.harness.report.svg import Axis, Bar, Level, Line, Mark, bar_chart, line_chart
from loadtest.harness.results import RunResult
from loadtest.harness.series import Series

SECONDS = Axis("seconds from the start", low=0)
RAMP_BINS = 12  # rates that a ramp is cut into


def run_charts(result: RunResult) -> list[str]:
    """Return the charts of a run that say anything."""
    charts = [
        latency_over_time(result),
        percentile_curve(result),
        outcomes_over_time(result),
        knee(result),
        stages(result),
        processor(result),
        memory(result),
        queues(result),
    ]
    return [chart for chart in charts if chart]


def marks_of(result: RunResult) -> list[Mark]:
    """Return the faults as marks, each until full quality was back."""
    return [
        Mark(
            f.what.partition(":")[0],
            f.at_s,
            f.end_s + (f.recovery_s if f.recovery_s is not None else 0.0),
        )
        for f in result.faults
    ]


def latency_over_time(result: RunResult) -> str:
    """Draw p50 and p99 second by second, with the limits that were promised."""
    lines = []
    for index, (name, series) in enumerate(_single(result)):
        lines += [
            Line(f"{name} p50", _each(series.p50_ms), 2 * index % 6),
            Line(f"{name} p99", _each(series.p99_ms), (2 * index + 1) % 6),
        ]
    levels = [
        Level(f"{slo.target or ALL} {percentile} ≤ {limit:g} ms", limit)
        for slo in result.scenario.slo
        for percentile, limit in slo.latency_ms.items()
        if percentile in ("p50", "p99")
    ]
    title = "Latency over time, by the second a request was due"
    return line_chart(title, lines[:6], SECONDS, Axis("ms", "log"), marks_of(result), levels)


def percentile_curve(result: RunResult) -> str:
    """Draw latency against percentile."""
    lines = [
        Line(name, curve, index % 6)
        for index, (name, curve) in enumerate(result.curves.items())
        if name != ALL and curve
    ]
    if not lines:
        return ""
    levels = [
        Level(f"{percentile} ≤ {limit:g} ms", limit)
        for slo in result.scenario.slo
        for percentile, limit in slo.latency_ms.items()
    ]
    most = max(percent for line in lines for percent, _ in line.points)
    x = Axis("percentile of the answered requests", "nines", 0, most)
    return line_chart("Latency by percentile", lines, x, Axis("ms", "log"), (), levels)


def outcomes_over_time(result: RunResult) -> str:
    """Draw what was offered and what became of it."""
    series = result.series[ALL]
    lines = [
        Line("offered", _each(series.offered), 3),
        Line("answered", _each(series.completed), 0),
    ]
    for name, style in (("degraded", 2), ("failed", 1), ("hung", 4)):
        values: Sequence[int] = getattr(series, name)
        if any(values):
            lines.append(Line(name, _each(values), style))
    title = "Offered and answered, requests a second"
    y = Axis("a second", low=0)
    return line_chart(title, lines, SECONDS, y, marks_of(result))


def knee(result: RunResult) -> str:
    """Draw throughput and latency against the offered rate, where the rate was varied."""
    points = knee_points(result.offered_profile_per_s, result.series[ALL])
    if len(points) < 3:
        return ""
    rates = Axis("offered a second", low=0)
    through = line_chart(
        "Throughput against offered rate: where it leaves the dashed line is the knee",
        [
            Line("offered", [(offered, offered) for offered, *_ in points], 3),
            Line("answered", [(o, answered) for o, answered, _, _ in points], 0, dots=True),
            Line("whole", [(o, ok) for o, _, ok, _ in points], 2, dots=True),
        ],
        rates,
        Axis("a second", low=0),
    )
    slow = line_chart(
        "p99 against offered rate",
        [Line("p99, median of its seconds", [(o, p99) for o, *_, p99 in points], 1, dots=True)],
        rates,
        Axis("ms", "log"),
    )
    return through + slow


def knee_points(
    profile_per_s: Sequence[float], series: Series
) -> list[tuple[float, float, float, float | None]]:
    """Return (offered, answered, whole, p99 ms) for each rate, averaged over its seconds.

    The rate is the one that was planned; a ramp's is cut into RAMP_BINS. The figures count requests
    by the second in which they were due, but for answered, which counts those that came.
    """
    seconds = list(enumerate(profile_per_s[: len(series.offered)]))
    if not seconds or max(profile_per_s) - min(profile_per_s) < 1e-6:
        return []
    width = (max(profile_per_s) - min(profile_per_s)) / RAMP_BINS
    steps = len({round(rate, 6) for rate in profile_per_s}) <= 2 * RAMP_BINS

    def bin_of(item: tuple[int, float]) -> float:
        return round(item[1], 6) if steps else round(item[1] / width)

    points = []
    for _, group in groupby(sorted(seconds, key=bin_of), key=bin_of):
        cells = [second for second, _ in group]
        p99 = sorted(ms for second in cells if (ms := series.p99_ms[second]) is not None)
        points.append(
            (
                sum(profile_per_s[second] for second in cells) / len(cells),
                sum(series.completed[second] for second in cells) / len(cells),
                sum(series.ok[second] for second in cells) / len(cells),
                p99[len(p99) // 2] if p99 else None,
            )
        )
    return points


def stages(result: RunResult) -> str:
    """Draw the stages of the answers."""
    bars = [
        Bar(f"{s.target}: {s.stage}", [s.latency_ms["p50"], s.latency_ms["p99"]])
        for s in result.stages
    ]
    return bar_chart("Stages of the answers", ["p50", "p99"], bars, "ms") if bars else ""


def processor(result: RunResult) -> str:
    """Draw the processor time of each part."""
    lines = [
        Line(p.name, list(zip(p.at_s, p.cpu_percent, strict=True)), index % 6)
        for index, p in enumerate(result.processes)
        if p.at_s
    ]
    title = "Processor time"
    y = Axis("% of one core", low=0)
    return line_chart(title, lines, SECONDS, y, marks_of(result)) if lines else ""


def memory(result: RunResult) -> str:
    """Draw the memory of each part."""
    lines = [
        Line(p.name, list(zip(p.at_s, p.rss_mib, strict=True)), index % 6)
        for index, p in enumerate(result.processes)
        if p.at_s
    ]
    y = Axis("resident MiB", low=0)
    return line_chart("Memory", lines, SECONDS, y, marks_of(result)) if lines else ""


def queues(result: RunResult) -> str:
    """Draw how long requests waited inside Triton, model by model."""
    busiest = sorted(result.models, key=lambda m: m.queue_ms * m.requests, reverse=True)[:4]
    lines = [
        Line(m.model, [(p.at_s, p.queue_ms.get(m.model)) for p in result.queue if p.at_s >= 0], i)
        for i, m in enumerate(busiest)
    ]
    title = "Waiting in Triton's queues, a request"
    y = Axis("ms", low=0)
    return line_chart(title, lines, SECONDS, y, marks_of(result)) if lines else ""


def _single(result: RunResult) -> list[tuple[str, Series]]:
    """Return the series of the targets, without that of all together."""
    return [(name, series) for name, series in result.series.items() if name != ALL]


def _each(values: Iterable[float | None]) -> list[tuple[float, float | None]]:
    return [(second + 0.5, value) for second, value in enumerate(values)]
