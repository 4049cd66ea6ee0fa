"""The tables of a report: rows of text, for HTML, Markdown and the terminal alike. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.harness.analysis import ALL
from loadtest.harness.results import Figures, RunResult, SloVerdict
from loadtest.harness.sampling import ProcessSeries

NOTHING = "–"


@dataclass(frozen=True)
class Table:
    """A heading and rows; the first column is text, the others are numbers or short words."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def number(value: float | None, digits: int = 1) -> str:
    """Write a number with a fixed number of digits, or that there is none."""
    return NOTHING if value is None else f"{value:,.{digits}f}"


def percent(share: float | None, digits: int = 2) -> str:
    """Write a share in percent."""
    return NOTHING if share is None else f"{share * 100:.{digits}f} %"


def slo_table(result: RunResult) -> Table:
    """Return what was promised and what was measured."""
    rows = tuple(
        (v.what, v.objective, measured_text(v), "held" if v.held else "BROKEN", _budget(v))
        for v in result.slo
    )
    columns = ("SLO", "objective", "measured", "verdict", "error budget used")
    return Table("Service level objectives", columns, rows)


def measured_text(verdict: SloVerdict) -> str:
    """Write what was measured, with its unit."""
    if verdict.measured is None:
        return "no end in this run" if verdict.unit in ("s", "ms") else NOTHING
    digits = {"ms": 1, "%": 3, "s": 1}.get(verdict.unit, 0)
    return f"{verdict.measured:,.{digits}f} {verdict.unit}".rstrip()


def _budget(verdict: SloVerdict) -> str:
    if verdict.budget_used is None:
        return NOTHING
    return f"{verdict.budget_used:.0%}"


def targets_table(result: RunResult) -> Table:
    """Return the figures of each target."""
    shown = [f for f in result.targets if f.target != ALL or len(result.targets) > 2]
    return Table(
        "Requests",
        (
            *("target", "requests", "offered/s", "answered/s", "good/s"),
            *("whole", "degraded", "failed", "hung", "recall", "recall, degraded"),
        ),
        tuple(_target_row(figures) for figures in shown),
    )


def _target_row(f: Figures) -> tuple[str, ...]:
    return (
        f.target,
        f"{f.requests:,}",
        number(f.offered_per_s),
        number(f.answered_per_s),
        number(f.goodput_per_s),
        f"{f.ok:,}",
        f"{f.degraded:,}",
        f"{f.failed:,}",
        f"{f.hung:,}",
        percent(f.recall),
        percent(f.recall_degraded),
    )


def latency_table(result: RunResult) -> Table:
    """Return the latency percentiles of each target, and of each stage of its answers."""
    names = ("p50", "p90", "p95", "p99", "p99.9", "max")
    rows = [
        (f.target, *(number(f.latency_ms.get(n)) for n in names), _interval(f))
        for f in result.targets
        if f.target != ALL and f.latency_ms
    ]
    rows += [
        (f"{s.target}: {s.stage}", *(number(s.latency_ms.get(n), 2) for n in names), "")
        for s in result.stages
    ]
    title = "Latency of answers from their scheduled start, and their stages, in ms"
    return Table(title, ("", *names, "p99, 95 % interval"), tuple(rows))


def _interval(figures: Figures) -> str:
    if figures.p99_interval_ms is None:
        return NOTHING
    low, high = figures.p99_interval_ms
    return f"{low:.1f}…{high:.1f}"


def faults_table(result: RunResult) -> Table:
    """Return what the faults did."""
    rows = tuple(
        (
            f.what,
            f"{f.at_s:.1f}",
            f"{f.end_s:.1f}",
            "not in this run" if f.recovery_s is None else f"{f.recovery_s:.1f}",
            f"{f.requests:,}",
            percent(f.answered / f.requests if f.requests else None),
            f"{f.degraded:,}",
            f"{f.failed:,}",
            f"{f.hung:,}",
        )
        for f in result.faults
    )
    columns = (
        *("fault", "at, s", "over, s", "full quality after, s", "requests until then"),
        *("answered", "degraded", "failed", "hung"),
    )
    return Table("Faults", columns, rows)


def errors_table(result: RunResult) -> Table:
    """Return why requests failed."""
    rows = tuple((reason, f"{count:,}") for reason, count in result.errors.items())
    return Table("Failures", ("reason", "requests"), rows)


def models_table(result: RunResult) -> Table:
    """Return Triton's own figures."""
    rows = tuple(
        (
            m.model,
            f"{m.requests:,}",
            f"{m.failures:,}",
            number(m.rows_per_run, 2),
            number(m.queue_ms, 2),
            number(m.compute_ms, 2),
        )
        for m in result.models
    )
    columns = ("model", "requests", "failures", "rows a run", "queue, ms", "compute, ms")
    return Table("Triton's own counters, averages a request", columns, rows)


def processes_table(result: RunResult) -> Table:
    """Return what the parts used."""
    columns = (
        *("part", "CPU, % of a core", "memory, MiB", "most", "growth after 3 min"),
        *("descriptors", "most", "growth after 3 min", "threads"),
    )
    return Table("Processes", columns, tuple(_process_row(series) for series in result.processes))


def _process_row(series: ProcessSeries) -> tuple[str, ...]:
    count = max(1, len(series.at_s))
    return (
        series.name,
        number(sum(series.cpu_percent) / count),
        number(series.rss_mib[-1] if series.rss_mib else None),
        number(max(series.rss_mib, default=None)),
        percent(series.growth(series.rss_mib), 1),
        str(series.descriptors[-1] if series.descriptors else NOTHING),
        str(max(series.descriptors, default=0)),
        percent(series.growth(series.descriptors), 1),
        str(series.threads[-1] if series.threads else NOTHING),
    )


def conditions_table(result: RunResult) -> Table:
    """Return everything that a reader needs to repeat the run, or to doubt it."""
    machine, generator = result.machine, result.generator
    cache = percent(result.cache_hit_ratio, 1)
    late = ", ".join(f"{name} {ms:.2f}" for name, ms in generator.lateness_ms.items())
    rows = (
        ("scenario", f"{result.scenario.name}, seed {result.seed}"),
        ("started", f"{result.started_at}, {result.duration_s:.1f} s measured"),
        ("measured at", result.url),
        ("models", _models(result)),
        ("corpus", _corpus(result)),
        ("embedding cache hits", cache),
        (
            "generator",
            f"{generator.processes} processes, {generator.cores_used:.2f} cores, at most "
            f"{generator.most_in_flight} requests in flight",
        ),
        ("generator's lateness, ms", f"{late} (limit of p99: {generator.lateness_limit_ms:g})"),
        (
            "machine",
            f"{machine.processor}, {machine.cores} cores, {machine.memory_gib} GiB, Linux "
            f"{machine.kernel}; load before the run {machine.load_1m}",
        ),
        ("CPU flags", " ".join(machine.cpu_flags)),
        ("thread variables", _pairs(machine.threads) or "none set"),
        ("versions", f"Python {machine.python}, {_pairs(machine.packages)}"),
    )
    return Table("Conditions", ("", ""), rows)


def _models(result: RunResult) -> str:
    told = result.model_version or result.profile or "not told"
    return f"{told}, random weights: the answers mean nothing" if result.random_weights else told


def _corpus(result: RunResult) -> str:
    if result.corpus is None:
        return "not told"
    least = "" if result.corpus.complete else "at least "
    return f"{least}{result.corpus.videos:,} videos, {result.corpus.segments:,} segments"


def _pairs(values: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def run_tables(result: RunResult) -> Sequence[Table]:
    """Return all tables of a run that say anything, in their order."""
    tables = (
        slo_table(result),
        targets_table(result),
        latency_table(result),
        faults_table(result),
        errors_table(result),
        models_table(result),
        processes_table(result),
        conditions_table(result),
    )
    return [table for table in tables if table.rows]
