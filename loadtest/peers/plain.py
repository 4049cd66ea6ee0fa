"""Searches a second under the SLO: ours, and the plain way's, on the same corpus and weights.

    python -m loadtest.peers.plain --data-dir DIR [--trial 15] [--p99-ms 100] [--json FILE]

Needs a running stack with a corpus (`pixserve loadtest load-corpus`). `plain_server.py` says what
the plain way is. The highest rate of new queries that holds the SLO is searched for, ours first;
meanwhile the other way is asked nothing.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import msgspec

from gateway.errors import ConfigurationError
from loadtest.harness.capacity import Search, Trial
from loadtest.harness.capacity_run import search_capacity
from loadtest.harness.firing import Stop
from loadtest.harness.place import Place
from loadtest.harness.run import run_scenario
from loadtest.harness.scenario import Constant, Queries, Scenario, SearchText, Slo
from loadtest.peers.process import peer_server
from loadtest.stack import describe_machine, find_stack

FIRST_PER_S = 2.0
MOST_PER_S = 500.0
PRECISION = 0.1
WARM_UP_S = 3.0
AVAILABILITY = 0.999
DEGRADED_SHARE = 0.01


class Way(msgspec.Struct, frozen=True):
    """One way to search."""

    name: str
    per_s: float | None  # the highest rate that held; None: not even the lowest one tried
    trials: tuple[Trial, ...]


class PlainReport(msgspec.Struct, frozen=True):
    """Both ways."""

    machine: str
    p99_ms: float
    ways: tuple[Way, ...]

    @property
    def ratio(self) -> float | None:
        """Ours over theirs; None where one held no rate."""
        ours, theirs = (way.per_s for way in self.ways)
        return ours / theirs if ours and theirs else None


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=Path("pixserve-data"))
    parser.add_argument("--port", type=int, default=18591)
    parser.add_argument("--trial", type=float, default=15.0, help="seconds of one trial")
    parser.add_argument("--p99-ms", type=float, default=100.0)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    try:
        report = measure(given.data_dir, given.port, given.trial, given.p99_ms)
    except ConfigurationError as error:
        sys.exit(f"plain: {error}")
    text = msgspec.json.format(msgspec.json.encode(report), indent=2)
    sys.stdout.write(text.decode() + f"\nratio: {report.ratio}\n")
    if given.json:
        given.json.write_bytes(text)


def measure(data_dir: Path, port: int, trial_s: float, p99_ms: float) -> PlainReport:
    """Search for both capacities.

    Raises:
        ConfigurationError: no stack is ready, or the plain server does not come up.
    """
    ours = capacity("pixserve", find_stack(data_dir).gateway, trial_s, p99_ms)
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "loadtest.peers.plain_server"]
    command += ["--data-dir", str(data_dir), "--port", str(port)]
    with (
        tempfile.TemporaryDirectory(prefix="pixserve-plain-") as folder,
        peer_server(command, f"{url}/ready", Path(folder) / "server.log", {}),
    ):
        theirs = capacity("plain", url, trial_s, p99_ms)
    return PlainReport(machine=describe_machine(), p99_ms=p99_ms, ways=(ours, theirs))


def capacity(name: str, url: str, trial_s: float, p99_ms: float) -> Way:
    """Return the highest rate of searches that a server answers under the SLO."""
    slo = Slo(latency_ms={"p99": p99_ms}, availability=AVAILABILITY, degraded_share=DEGRADED_SHARE)
    scenario = Scenario(
        name=name,
        load=Constant(rate_per_s=FIRST_PER_S, duration_s=trial_s, warm_up_s=WARM_UP_S),
        target=(SearchText(queries=Queries(source="unique"), deadline_ms=round(p99_ms)),),
        slo=(slo,),
    )
    found = search_capacity(
        scenario,
        Search(FIRST_PER_S, MOST_PER_S, PRECISION),
        trial_s,
        Stop(),
        lambda each, rate: run_scenario(each, Path(), _told(url, name, rate)),
    ).search
    return Way(name, found.highest_held_per_s, found.trials)


def _told(url: str, name: str, rate: float) -> Place:
    sys.stderr.write(f"{name}: {rate:g} searches a second\n")
    return Place(url)


if __name__ == "__main__":
    main()
