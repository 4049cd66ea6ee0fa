"""The live view of a run on a terminal; elsewhere a line every ten seconds."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.harness.firing import Moment, Watch
from loadtest.harness.records import Outcome, Records, measured

WINDOW_S = 5.0  # that the rates and percentiles look back
REFRESH_S = 0.5
LINE_EVERY_S = 10.0  # without a terminal
LATEST_BATCHES = 200  # that the window may reach back over


@contextmanager
def live_view(name: str, *, quiet: bool = False) -> Iterator[Watch]:
    """Show a run on stderr; gives what is to be called with each `Moment`.

    Args:
        name: of the scenario.
        quiet: show nothing.
    """
    console = Console(stderr=True)
    if quiet:
        yield lambda _: None
    elif console.is_terminal:
        with Live(console=console, transient=True, auto_refresh=False) as live:
            yield _paced(REFRESH_S, lambda moment: live.update(_table(name, moment), refresh=True))
    else:
        yield _paced(
            LINE_EVERY_S,
            lambda moment: print(_line(name, moment), file=sys.stderr, flush=True),  # noqa: T201
        )


def _paced(every_s: float, show: Watch) -> Watch:
    """Return what shows a moment only when that was last done long enough ago."""
    next_s = 0.0

    def watch(moment: Moment) -> None:
        nonlocal next_s
        now_s = time.monotonic()
        if now_s >= next_s:
            next_s = now_s + every_s
            show(moment)

    return watch


def latest(moment: Moment) -> Records:
    """Return the measured records that were due in the last WINDOW_S seconds."""
    batches = moment.heard.batches[-LATEST_BATCHES:]
    records = measured(np.concatenate(batches)) if batches else measured(moment.heard.records)
    return records[records["scheduled_s"] >= moment.now_s - WINDOW_S]


def _facts(moment: Moment) -> dict[str, str]:
    records = latest(moment)
    window_s = max(1.0, min(WINDOW_S, moment.now_s))
    counts = np.bincount(records["outcome"], minlength=len(Outcome))
    good = records[records["outcome"] <= Outcome.DEGRADED]["latency_s"] * 1_000
    late = records["lateness_s"] * 1_000
    return {
        "time": "warm-up"
        if moment.now_s < 0
        else f"{moment.now_s:.0f} of {moment.duration_s:.0f} s",
        "a second": f"{len(records) / window_s:.1f}",
        "in flight": str(sum(moment.heard.in_flight.values())),
        **{o.name.lower(): str(counts[o]) for o in Outcome},
        "p50 ms": _percentile(good, 50),
        "p99 ms": _percentile(good, 99),
        "late p99 ms": _percentile(late, 99),
        "faults": ", ".join(moment.struck) or "none",
    }


def _percentile(values: NDArray[Any], percent: int) -> str:
    return f"{np.percentile(values, percent):.1f}" if values.size else "–"


def _line(name: str, moment: Moment) -> str:
    return f"{name}: " + ", ".join(f"{key} {value}" for key, value in _facts(moment).items())


def _table(name: str, moment: Moment) -> Table:
    table = Table(title=f"{name}: the last {WINDOW_S:.0f} s", title_justify="left")
    facts = _facts(moment)
    for key in facts:
        table.add_column(key, justify="right")
    table.add_row(*facts.values())
    return table
