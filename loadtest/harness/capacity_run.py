"""Runs the search for capacity, and reports it."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import msgspec

from gateway.errors import ConfigurationError
from loadtest.harness.analysis import ALL
from loadtest.harness.capacity import TRIAL_COLUMNS, Search, Trial, rounded, trial_rows
from loadtest.harness.firing import Stop
from loadtest.harness.report.html import document_html
from loadtest.harness.report.markdown import document
from loadtest.harness.report.svg import Axis, Level, Line, line_chart
from loadtest.harness.report.tables import Table, conditions_table
from loadtest.harness.results import EXIT_CODES, RunResult, Verdict
from loadtest.harness.run import Finished
from loadtest.harness.scenario import Closed, Constant, Replay, Scenario
from loadtest.harness.write import REPORT_FILE, SUMMARY_FILE

Runner = Callable[[Scenario, float], Finished]

CAPACITY_FILE = "capacity.json"
MIN_REQUESTS = 10  # of a trial: less says nothing


@dataclass(frozen=True)
class Found:
    """A search that has ended, and the conditions of its last trial."""

    search: Search
    last: RunResult | None


@dataclass(frozen=True)
class CapacityReport:
    """What is printed and written."""

    files: dict[str, bytes]
    markdown: str
    exit_code: int


def search_capacity(
    scenario: Scenario, search: Search, trial_s: float, stop: Stop, run: Runner
) -> Found:
    """Try rates until the search is over, or `stop` is set.

    Args:
        scenario: whose targets and SLOs; its load gives way to a constant rate.
        search: where to begin and how precise to be.
        trial_s: length of a trial.
        stop: ends it.
        run: runs one trial at a rate.

    Raises:
        ConfigurationError: the scenario has a load that is none of rates, or faults, or a trial at
            the first rate would have less than MIN_REQUESTS.
    """
    if isinstance(scenario.load, Closed | Replay) or scenario.fault or scenario.cold:
        raise ConfigurationError(
            f"{scenario.name}: capacity is searched with open loops of rates, without faults"
        )
    least_per_s = MIN_REQUESTS / trial_s
    if search.first_per_s < least_per_s:
        raise ConfigurationError(
            f"a trial of {trial_s:g} s at {search.first_per_s:g} a second has less than "
            f"{MIN_REQUESTS} requests: raise --trial or --start"
        )
    search = replace(search, least_per_s=least_per_s)
    last: RunResult | None = None
    while not stop.asked and (rate := search.next_rate()) is not None:
        load = Constant(
            rate_per_s=rounded(rate),
            duration_s=trial_s,
            warm_up_s=scenario.load.warm_up_s,
            arrivals=scenario.load.arrivals,
        )
        last = run(msgspec.structs.replace(scenario, load=load), load.rate_per_s).result
        if not stop.asked:
            search = replace(search, trials=(*search.trials, trial_of(load.rate_per_s, last)))
    return Found(search, last)


def trial_of(rate_per_s: float, result: RunResult) -> Trial:
    """Return a run as a trial; one that broke its SLO is broken, late generator or not."""
    figures = next(f for f in result.targets if f.target == ALL)
    kept = all(v.held for v in result.slo)
    verdict: Verdict = result.verdict
    if verdict == "invalid" and not kept:
        verdict = "broken"
    return Trial(
        rate_per_s=rate_per_s,
        verdict=verdict,
        why=tuple(v.what for v in result.slo if not v.held) or result.why,
        answered_per_s=figures.answered_per_s,
        p50_ms=figures.latency_ms.get("p50"),
        p99_ms=figures.latency_ms.get("p99"),
        degraded_share=figures.degraded / figures.answered if figures.answered else 0.0,
        failed=figures.failed + figures.hung,
        lateness_ms_p99=result.generator.lateness_ms.get("p99", 0.0),
    )


def capacity_report(scenario: Scenario, found: Found, *, interrupted: bool) -> CapacityReport:
    """Report a search: the rate, every trial, and the curve of rate against latency."""
    search = found.search
    told, verdict = _conclusion(search, interrupted=interrupted)
    title = f"Capacity under {scenario.name}"
    tables = [Table("Trials, in their order", TRIAL_COLUMNS, trial_rows(search.trials))]
    if found.last is not None:
        tables.append(conditions_table(found.last))
    markdown = document(title, told, tables)
    page = document_html(title, verdict, told, tables, _charts(scenario, search))
    summary = {
        "scenario": scenario,
        "capacity_per_s": search.highest_held_per_s,
        "broken_per_s": search.lowest_broken_per_s,
        "trials": search.trials,
        "told": told,
    }
    files = {
        CAPACITY_FILE: msgspec.json.format(msgspec.json.encode(summary), indent=1),
        SUMMARY_FILE: markdown.encode(),
        REPORT_FILE: page.encode(),
    }
    exit_code = EXIT_CODES[verdict]
    return CapacityReport(files, markdown, exit_code)


def _conclusion(search: Search, *, interrupted: bool) -> tuple[str, Verdict]:
    held, broken = search.highest_held_per_s, search.lowest_broken_per_s
    if interrupted:
        return f"INTERRUPTED: so far {held or 0:g} requests a second held", "invalid"
    if search.invalid is not None:
        reason = "; ".join(search.invalid.why)
        return (
            f"INVALID: at {search.invalid.rate_per_s:g} a second the generator failed ({reason}); "
            f"{held or 0:g} a second held",
            "invalid",
        )
    if held is None:
        return f"BROKEN: not even {broken or search.first_per_s:g} requests a second held", "broken"
    above = f"{broken:g} did not" if broken is not None else "no higher rate was tried"
    return f"HELD: {held:g} requests a second; {above}", "held"


def _charts(scenario: Scenario, search: Search) -> list[str]:
    trials = sorted(search.trials, key=lambda t: t.rate_per_s)
    rates = Axis("offered a second", low=0)
    levels = [
        Level(f"{percentile} ≤ {limit:g} ms", limit)
        for slo in scenario.slo
        for percentile, limit in slo.latency_ms.items()
        if percentile in ("p50", "p99")
    ]
    return [
        line_chart(
            "Answered against offered rate",
            [
                Line("offered", [(t.rate_per_s, t.rate_per_s) for t in trials], 3),
                Line("answered", [(t.rate_per_s, t.answered_per_s) for t in trials], 0, dots=True),
            ],
            rates,
            Axis("a second", low=0),
        ),
        line_chart(
            "Latency against offered rate",
            [
                Line("p50", [(t.rate_per_s, t.p50_ms) for t in trials], 0, dots=True),
                Line("p99", [(t.rate_per_s, t.p99_ms) for t in trials], 1, dots=True),
            ],
            rates,
            Axis("ms", "log"),
            (),
            levels,
        ),
    ]
