"""How measurements are shown: progress, tables, and the report as a file."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

if TYPE_CHECKING:
    from loadtest.bench_models import ModelReport
    from loadtest.bench_precision import PrecisionReport
    from loadtest.stats import Latencies


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show a bar; what is given moves it by one."""
    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def latency_table(title: str) -> Table:
    """Return an empty table of latencies."""
    table = Table(title=title, title_justify="left")
    table.add_column("ms")
    for column in ("p50", "p95", "p99", "max", "count"):
        table.add_column(column, justify="right")
    return table


def add_latencies(table: Table, name: str, times: "Latencies") -> None:
    """Add a row."""
    shown = (times.ms_p50, times.ms_p95, times.ms_p99, times.ms_max)
    table.add_row(name, *(f"{ms:.2f}" for ms in shown), str(times.count))


def show(table: Table) -> None:
    """Print a table."""
    Console().print(table)


def write_report(path: Path | None, report: object) -> None:
    """Write a report as JSON, where a path is given."""
    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def models_table(reports: "Sequence[ModelReport]") -> Table:
    """Return the table of all encoders, 80 characters wide at most."""
    title = "encoders: one row, ms at p50; many, rows a second"
    if any(report.random_weights for report in reports):
        title += "; random weights"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False, padding=0)
    table.add_column("model", no_wrap=True)
    for column in ("bare", "Triton", "over", "floor", "cores", "full", "ratio", "ensemble", "MiB"):
        table.add_column(column, justify="right", no_wrap=True, min_width=5)
    for report in reports:
        table.add_row(
            f"{report.model} {report.precision}",
            f"{report.bare.ms_p50:.2f}",
            f"{report.served.ms_p50:.2f}",
            f"{report.overhead_ms:+.2f}",
            f"{report.floor.per_s:.0f}",
            f"{report.floor_all_cores:.0f}",
            f"{report.full.per_s:.0f}",
            f"{report.ratio:.2f}",
            f"{report.ensemble_load.per_s:.0f}",
            f"{report.resident_mib:.0f}",
        )
    return table


def precision_table(report: "PrecisionReport", all_shapes: Sequence[tuple[int, int]]) -> Table:
    """Return the table of all files of one encoder, texts × tokens by column."""
    title = f"{report.bundle}: sentence, one thread, ms at p50 by texts × tokens"
    table = Table(title=title, title_justify="left")
    table.add_column("file")
    shapes = [f"{texts} × {tokens}" for texts, tokens in all_shapes]
    for column in (*shapes, "cosine", "least", "kept"):
        table.add_column(column, justify="right")
    table.add_column("gate")
    for row in report.variants:
        table.add_row(
            row.name,
            *(f"{ms:.2f}" for ms in row.ms_p50),
            f"{row.mean_cosine:.4f}",
            f"{row.least_cosine:.4f}",
            f"{row.overlap:.1%}",
            "refused" if row.refused else "passes",
        )
    return table
