"""Reports as tables for the terminal and as charts."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.table import Table

from training.evaluation.bootstrap import Comparison, Interval, Measures
from training.evaluation.plots import bar_chart, line_chart
from training.evaluation.report import ALL, EvalReport, Row
from training.world.captions import KINDS

if TYPE_CHECKING:  # it imports torch
    from training.evaluation.long_videos import PixReport
    from training.tuning.contest import Contest

COLUMNS = ("recall@1", "@5", "recall@10", "MRR", "nDCG@10")


def interval_text(value: Interval, *, sign: bool = False) -> str:
    """Return a mean with its interval, e.g. `0.61 [0.58, 0.64]`."""
    form = "+.3f" if sign else ".3f"
    return f"{value.mean:{form}} [{value.low:{form}}, {value.high:{form}}]"


def eval_table(report: EvalReport) -> Table:
    """Return a row a kind of query and ranking."""
    table = _table(
        f"{report.model_version}: {report.segments} segments ({report.indexed_segments} indexed), "
        f"seed {report.seed}, {report.pix:,} PIX a video; in %, 95 % intervals",
        "query", "ranking", "asked", *COLUMNS,
    )  # fmt: skip
    for row in report.rows:
        table.add_row(row.kind, row.ranking, str(row.measures.queries), *_cells(row.measures))
    return table


def gain_lines(report: EvalReport) -> Iterator[str]:
    """Yield what is to be said beneath the table."""
    for gain in report.gains:
        relative = gain.comparison.relative
        if relative is None:
            continue
        yield (
            f"{gain.kind} queries, {gain.ranking} over {gain.over}: nDCG@10 "
            f"{relative.mean:+.1%} [{relative.low:+.1%}, {relative.high:+.1%}]"
        )
    if report.degraded:
        yield f"{report.degraded} answers lack a leg: the figures are too low"


def versus_table(old: EvalReport, rows: Sequence[tuple[Row, Comparison]]) -> Table:
    """Return how a run's nDCG@10 differs from an older one's, row by row."""
    table = _table(f"nDCG@10 beside {old.model_version}", "query", "ranking", "now", "difference")
    for row, comparison in rows:
        table.add_row(
            row.kind,
            row.ranking,
            f"{row.measures.ndcg_10.mean:.3f}",
            interval_text(comparison.difference, sign=True),
        )
    return table


def eval_chart(report: EvalReport) -> str:
    """Return the recall@10 by kind of query and ranking, as SVG."""
    series: dict[str, dict[str, Interval]] = {}
    for row in report.rows:
        if row.kind != ALL:
            series.setdefault(row.ranking, {})[row.kind] = row.measures.recall_10
    title = f"recall@10, {report.model_version}, {report.segments} segments"
    return bar_chart(title, KINDS, series)


def pix_table(report: "PixReport") -> Table:
    """Return a row a PIX budget and ranking."""
    table = _table(
        f"{report.model_version}: {report.events} short events in {report.videos} videos of "
        f"{report.duration_s:g} s; in %, 95 % intervals",
        "PIX", "ranking", "asked", *COLUMNS,
    )  # fmt: skip
    for row in report.rows:
        cells = _cells(row.measures)
        table.add_row(f"{row.pix:,}", row.ranking, str(row.measures.queries), *cells)
    return table


def pix_chart(report: "PixReport") -> str:
    """Return the recall@10 by PIX budget, as SVG."""
    series: dict[str, dict[str, Interval]] = {}
    for row in report.rows:
        series.setdefault(row.ranking, {})[f"{row.pix:,} PIX"] = row.measures.recall_10
    budgets = list(dict.fromkeys(f"{row.pix:,} PIX" for row in report.rows))
    return line_chart(f"recall@10 of short events, {report.model_version}", budgets, series)


def measures_table(measures: Mapping[str, Measures], title: str) -> Table:
    """Return a row a model."""
    table = _table(title, "model", *COLUMNS)
    for name, found in measures.items():
        table.add_row(name, *_cells(found))
    return table


def contest_table(contest: "Contest") -> Table:
    """Return a row a strategy, with how far cross-attention is above it."""
    table = _table(
        f"{contest.pairs} held-out pairs; in %, 95 % intervals; last: {contest.favourite} over it",
        "strategy", "weights", "recall@1", "recall@10", "nDCG@10", "over it",
    )  # fmt: skip
    for entry in contest.entries:
        found, over = entry.measures, entry.favourite_over
        table.add_row(
            entry.strategy,
            f"{entry.weights / 1_000:,.0f} k",
            _short(found.recall_1),
            f"{100 * found.recall_10.mean:.3g}",
            _short(found.ndcg_10),
            "" if over is None else _short(over.difference),
        )
    return table


def _cells(found: Measures) -> list[str]:
    """Return a cell a column, in percent; two intervals are left to the JSON, for want of room."""
    return [
        _short(found.recall_1),
        f"{100 * found.recall_5.mean:.3g}",
        _short(found.recall_10),
        f"{100 * found.mrr.mean:.3g}",
        _short(found.ndcg_10),
    ]


def _short(value: Interval) -> str:
    return f"{100 * value.mean:.3g} ({100 * value.low:.0f}–{100 * value.high:.0f})"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
