"""What several seeds of the mini family have in common: `python -m training.seeds DIR DIR DIR`.

Each folder is one that `make train SEED=…` filled. A figure's mean over the seeds comes with its
95 % interval by Student's t, so few seeds give wide intervals.
"""

from collections.abc import Mapping, Sequence
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from gateway.errors import ConfigurationError
from training.evaluation.bootstrap import Interval
from training.trained import REPORT, Report

T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # by seeds, from two on
NAMES = ("recall@1", "recall@5", "recall@10", "mrr", "ndcg@10")
GAIN = ("fused mixed", "visual mixed")  # what fusion adds, by nDCG@10


def over_seeds(values: Sequence[float]) -> Interval:
    """Return the mean of a figure over seeds, with its 95 % interval.

    Args:
        values: one a seed; two to ten of them.

    Raises:
        ConfigurationError: there are too few or too many for an interval.
    """
    if not 2 <= len(values) <= len(T_95) + 1:
        raise ConfigurationError(
            f"an interval over seeds needs 2 to {len(T_95) + 1} of them, got {len(values)}"
        )
    half = T_95[len(values) - 2] * stdev(values) / sqrt(len(values))
    mean = fmean(values)
    return Interval(mean, mean - half, mean + half)


def relative_gain(figures: Mapping[str, Mapping[str, float]]) -> float:
    """Return by how much fusion is above the picture alone in mixed queries: 0.5 is half more."""
    fused, visual = (figures[name]["ndcg@10"] for name in GAIN)
    return fused / visual - 1


def read_reports(folders: Sequence[Path]) -> list[Report]:
    """Return the report of each folder; raises ConfigurationError for one twice, or none."""
    try:
        reports = [
            msgspec.json.decode((folder / REPORT).read_bytes(), type=Report) for folder in folders
        ]
    except (OSError, msgspec.MsgspecError) as error:
        raise ConfigurationError(
            f"each folder must be one that `make train SEED=…` has filled: {error}"
        ) from error
    seeds = [report.seed for report in reports]
    if len(set(seeds)) < len(seeds):
        raise ConfigurationError(f"each seed may come once, got {seeds}")
    return reports


def seeds_table(reports: Sequence[Report]) -> Table:
    """Return the means over seeds, with their intervals, leg by leg."""
    table = Table(title=f"seeds {', '.join(str(report.seed) for report in reports)}: mean [95 %]")
    for name in ("leg, kind of query", *NAMES):
        table.add_column(name)
    for row in reports[0].figures:
        columns = [over_seeds([report.figures[row][name] for report in reports]) for name in NAMES]
        table.add_row(row, *(f"{c.mean:.3f} [{c.low:.3f}, {c.high:.3f}]" for c in columns))
    return table


def main(
    folders: Annotated[list[Path], typer.Argument(help="One for each seed, two to ten.")],
) -> None:
    """Show the figures of several seeds together."""
    try:
        reports = read_reports(folders)
        table = seeds_table(reports)
        gain = over_seeds([100 * relative_gain(report.figures) for report in reports])
    except ConfigurationError as error:
        Console(stderr=True).print(str(error), style="red", highlight=False)
        raise typer.Exit(1) from error
    console = Console()
    console.print(table)
    console.print(
        f"mixed queries, nDCG@10, fused above visual: {gain.mean:+.0f} % "
        f"[{gain.low:.0f}, {gain.high:.0f}]"
    )


if __name__ == "__main__":
    typer.run(main)
