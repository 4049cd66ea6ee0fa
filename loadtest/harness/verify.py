"""Checks of the method itself against servers whose truth is known.

1. A known distribution: the server holds each request for a time from its plan. Truth: when the
   server answered, by its own log, less when the request was due, by the schedule.
2. A planted stall: the server blocks for two seconds. The same truth. Beside it a naive closed-loop
   client, which asks again when it was answered, and times from when it sent.
3. The generator: a trivial server at a high rate, from one process: how late were the requests?
"""

import http.client
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from ensembles.arrays import Float64Array
from loadtest.harness.fleet import Fleet, Heard
from loadtest.harness.histograms import PERCENTILES, histogram_of, percentiles_ms
from loadtest.harness.plan import Plan, make_plan, share_of
from loadtest.harness.records import Records
from loadtest.harness.report.markdown import document
from loadtest.harness.report.tables import Table
from loadtest.harness.scenario import Constant, HttpGet, Scenario, Slo
from loadtest.harness.verify_server import ServerPlan, Truth, running_server
from loadtest.harness.worker.share import Share

SEED = 5
TOLERANCE = 0.02  # of a percentile
LATENESS_MS_P99 = 2.0
MEDIAN_S, SIGMA = 0.050, 0.5  # of the known distribution, lognormal
STALL_S = 2.0
CHECKED_RATE_PER_S = 200.0  # of checks 1 and 2
COLUMNS = tuple(PERCENTILES)


@dataclass(frozen=True)
class Check:
    """One comparison: rows of percentiles, and whether it is good."""

    title: str
    rows: tuple[tuple[str, dict[str, float]], ...]
    good: bool
    told: str


def verify_all(rate_per_s: float, seconds: float) -> tuple[str, bool]:
    """Run every check.

    Args:
        rate_per_s: of the generator's check.
        seconds: of each check.

    Returns:
        The report as Markdown, and whether all is well.
    """
    checks = (
        known_distribution(seconds),
        planted_stall(seconds),
        generator(rate_per_s, seconds),
    )
    good = all(check.good for check in checks)
    tables = [_table(check) for check in checks]
    told = "; ".join(f"{check.title.partition(':')[0]}: {check.told}" for check in checks)
    verdict = "The method holds" if good else "The method does NOT hold here"
    return document("Verification of the load generator", f"{verdict}. {told}", tables), good


def known_distribution(seconds: float) -> Check:
    """Compare reported percentiles with a server's known ones."""
    plan, scenario = _plan(CHECKED_RATE_PER_S, seconds)
    delays = np.random.default_rng(SEED).lognormal(np.log(MEDIAN_S), SIGMA, len(plan.times_s))
    with running_server(ServerPlan(delays_s=delays)) as server:
        records, truth_s = _measure(plan, scenario, server)
    return _judge("Known distribution: lognormal service times, in ms", records, truth_s, ())


def planted_stall(seconds: float) -> Check:
    """Compare reported percentiles with the truth around a stall, beside a naive client's."""
    plan, scenario = _plan(CHECKED_RATE_PER_S, seconds)
    with running_server(stalling(len(plan.times_s))) as server:
        records, truth_s = _measure(plan, scenario, server)
    asked = max(2, round((seconds - STALL_S) / MEDIAN_S))  # it waits for each answer
    with running_server(stalling(asked)) as server:
        naive = _naive_client(server.url, asked)
    title = f"Planted stall of {STALL_S:g} s: in ms"
    beside = (("a naive closed-loop client", percentiles_ms(histogram_of(naive))),)
    return _judge(title, records, truth_s, beside)


def stalling(requests: int) -> ServerPlan:
    """Return a server that answers after MEDIAN_S, and stands still in the middle for STALL_S."""
    return ServerPlan(np.full(requests, MEDIAN_S), requests // 2, STALL_S)


def generator(rate_per_s: float, seconds: float) -> Check:
    """Measure how late one process is against a trivial server."""
    plan, scenario = _plan(rate_per_s, seconds)
    with running_server(ServerPlan()) as server:
        heard, _ = _fire(plan, scenario, server.url)
    late = percentiles_ms(histogram_of(heard.records["lateness_s"].astype(np.float64)))
    answers = percentiles_ms(histogram_of(heard.records["latency_s"]))
    good = late["p99"] <= LATENESS_MS_P99 and int(heard.records["outcome"].max()) == 0
    cores = sum(done.cpu_s for done in heard.done.values()) / seconds
    told = (
        f"p99 {late['p99']:.2f} ms late (limit {LATENESS_MS_P99:g}) at {rate_per_s:g} a second, "
        f"{cores:.2f} cores"
    )
    title = f"Generator: {rate_per_s:g} requests a second from one process, in ms"
    return Check(title, (("lateness", late), ("latency", answers)), good, told)


def _plan(rate_per_s: float, seconds: float) -> tuple[Plan, Scenario]:
    scenario = Scenario(
        name="verify",
        load=Constant(rate_per_s=rate_per_s, duration_s=seconds, warm_up_s=0),
        target=(HttpGet(),),
        slo=(Slo(availability=1.0),),
    )
    return make_plan(scenario, SEED, {}), scenario


def _measure(plan: Plan, scenario: Scenario, server: Truth) -> tuple[Records, Float64Array]:
    """Fire a plan; returns what was recorded, and the true latencies by the server's log."""
    heard, start_s = _fire(plan, scenario, server.url)
    truth_s = server.answered_at_s() - start_s - plan.times_s
    return heard.records, truth_s


def _fire(plan: Plan, scenario: Scenario, url: str) -> tuple[Heard, float]:
    share = Share(
        0,
        scenario.target,
        [[f"/{number}" for number in range(len(plan.times_s))]],
        *share_of(plan, 0, 1),
        url=url,
        triton="",
        run_id="verify",
    )
    with Fleet([share]) as fleet:
        start_s = fleet.go(0.0)
        while fleet.listen(1.0):
            continue
    return fleet.heard, start_s


def _naive_client(url: str, requests: int) -> Float64Array:
    """Ask one request at a time and time each from when it is sent, as many tools do."""
    address = urlsplit(url)
    connection = http.client.HTTPConnection(str(address.hostname), address.port)
    times = np.empty(requests)
    for number in range(requests):
        begin = time.monotonic()
        connection.request("GET", f"/{number}")
        connection.getresponse().read()
        times[number] = time.monotonic() - begin
    connection.close()
    return times


def _judge(
    title: str,
    records: Records,
    truth_s: Float64Array,
    beside: tuple[tuple[str, dict[str, float]], ...],
) -> Check:
    reported = percentiles_ms(histogram_of(records["latency_s"]))
    truth = dict(
        zip(
            PERCENTILES,
            np.percentile(truth_s, list(PERCENTILES.values()), method="inverted_cdf") * 1_000,
            strict=True,
        )
    )
    errors = {name: 100 * (reported[name] / truth[name] - 1) for name in PERCENTILES}
    worst = max(errors.values(), key=abs)
    rows = (("truth", truth), ("reported", reported), ("error, %", errors), *beside)
    return Check(title, rows, abs(worst) <= TOLERANCE * 100, f"worst error {worst:+.2f} %")


def _table(check: Check) -> Table:
    rows = tuple(
        (name, *(f"{values[column]:,.2f}" for column in COLUMNS)) for name, values in check.rows
    )
    return Table(check.title, ("", *COLUMNS), rows)
