"""The harness beside other load generators, on the same server, in the same run.

    python -m loadtest.peers.load_tools wrk
    python -m loadtest.peers.load_tools perf-analyzer --triton HOST:PORT --program PATH
    python -m loadtest.peers.load_tools locust --program PATH

The first two are closed loops, so the harness runs one too, with as many clients. Rounds alternate,
so that whatever else the machine does falls on both. Beside perf_analyzer the server tells how long
its answers took it, by its own clock, while each of the two asked: what is left of a request is the
tool's. locust, whose distribution over machines was
weighed against Ray, is asked for a rate while the server stands still for two seconds.
"""

import asyncio
import csv
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Annotated

import msgspec
import numpy as np
import typer

from gateway.errors import ConfigurationError
from gateway.triton_statistics import answered_so_far
from loadtest.harness.place import Place
from loadtest.harness.run import run_scenario
from loadtest.harness.scenario import Closed, EmbedQuery, HttpGet, Queries, Scenario, Slo, Target
from loadtest.harness.verify import CHECKED_RATE_PER_S, planted_stall, stalling
from loadtest.harness.verify_server import ServerPlan, running_server

ROUNDS = 5
SERVICE_S = 0.010  # that the small server takes for each request
TEXT = "how bread is baked at home"
PERF_ANALYZER_STABLE_PERCENT = 999  # it is never refused: the median of the rounds is taken
PERF_ANALYZER_WINDOWS = 3  # that it wants before it tells anything
STATISTICS_S = 5.0

LOCUSTFILE = """
from itertools import count

from locust import FastHttpUser, constant_throughput, task

numbers = count()


class Searcher(FastHttpUser):
    wait_time = constant_throughput(1)

    @task
    def ask(self):
        self.client.get(f"/{next(numbers)}", name="/")
"""

Figures = dict[str, float]

app = typer.Typer(help="Compare the load harness with other tools.", no_args_is_help=True)


@app.command()
def wrk(
    clients: Annotated[int, typer.Option(min=1)] = 16,
    seconds: Annotated[int, typer.Option(min=2)] = 10,
) -> None:
    """Throughput of the same closed loop against a small server: wrk and the harness."""
    if shutil.which("wrk") is None:
        raise ConfigurationError("wrk is not installed (Debian: apt-get install wrk)")
    plan = ServerPlan(delays_s=np.full(2, SERVICE_S))
    with running_server(plan) as server:
        url = f"{server.url}/1"
        command = ["wrk", "-t1", f"-c{clients}", f"-d{seconds}s", url]

        def theirs() -> Figures:
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            return {"per_s": read_wrk(done.stdout)}

        def ours() -> Figures:
            return _closed(Place(server.url), HttpGet(path="/1"), clients, seconds)

        _compare("wrk", theirs, ours, ("per_s",))


@app.command(name="perf-analyzer")
def perf_analyzer(
    triton: Annotated[str, typer.Option(help="HOST:PORT, gRPC.")],
    program: Annotated[Path, typer.Option(help="perf_analyzer, see docs/batch.md.")],
    ensemble: str = "embed_query_v1",
    clients: Annotated[int, typer.Option(min=1)] = 1,
    seconds: Annotated[int, typer.Option(min=3)] = 12,
    words: Annotated[int, typer.Option(min=1, help="Of the text: more take longer.")] = 6,
) -> None:
    """Latency of the same text embedded over gRPC: perf_analyzer and the harness."""
    text = " ".join(islice(cycle(TEXT.split()), words))
    with tempfile.TemporaryDirectory() as folder:
        lines = Path(folder) / "queries.txt"
        lines.write_text(text + "\n")
        target = EmbedQuery(queries=Queries(source="file", file=lines.name))
        place = Place("http://127.0.0.1:9", triton)

        def theirs() -> Figures:
            arguments = ("-m", ensemble, "-i", "grpc", "-u", triton)
            return _run_perf_analyzer(program, arguments, text, clients, seconds, Path(folder))

        def ours() -> Figures:
            return _closed(place, target, clients, seconds, Path(folder))

        def both_sides(run: Callable[[], Figures]) -> Callable[[], Figures]:
            return lambda: _with_server_side(run, triton, ensemble, clients)

        shown = ("per_s", "ms_p50", "ms_p95", "ms_p99", "ms_mean", "ms_server", "ms_client")
        _compare("perf_analyzer", both_sides(theirs), both_sides(ours), shown)


@app.command()
def locust(
    program: Annotated[Path, typer.Option(help="locust, of an environment of its own.")],
    seconds: Annotated[int, typer.Option(min=5)] = 20,
) -> None:
    """What locust tells of a planted stall, beside the harness and the truth."""
    planned = round(CHECKED_RATE_PER_S * seconds)
    with running_server(stalling(planned)) as server, tempfile.TemporaryDirectory() as folder:
        theirs = _run_locust(program, server.url, seconds, Path(folder))
    check = planted_stall(seconds)
    for name, row in (*check.rows[:2], ("locust", theirs)):
        shown = "  ".join(f"{figure} {row[figure]:8.1f}" for figure in ("p50", "p90", "p95", "p99"))
        typer.echo(f"{name:9} {shown} ms")
    typer.echo(f"locust sent {theirs['sent']:.0f} of {planned} requests that were planned")


def read_locust(report: str) -> Figures:
    """Return what locust wrote as CSV of all requests together: milliseconds, and `sent`.

    Raises:
        ConfigurationError: a column is missing.
    """
    rows = list(csv.DictReader(report.splitlines()))
    try:
        row = rows[-1]  # the last one is of all requests
        found = {name: float(row[f"{name[1:]}%"]) for name in ("p50", "p90", "p95", "p99")}
        return found | {"sent": float(row["Request Count"])}
    except (IndexError, KeyError, ValueError) as error:
        raise ConfigurationError(f"locust wrote no figures: {report[-200:]!r}") from error


def read_wrk(output: str) -> float:
    """Return the requests a second that wrk printed.

    Raises:
        ConfigurationError: it printed none.
    """
    found = re.search(r"^Requests/sec:\s+([0-9.]+)", output, re.MULTILINE)
    if found is None:
        raise ConfigurationError(f"wrk printed no rate: {output[-200:]}")
    return float(found[1])


def read_perf_analyzer(report: str) -> Figures:
    """Return what perf_analyzer wrote as CSV: a line of names, a line of values, microseconds.

    Raises:
        ConfigurationError: a column is missing.
    """
    names, values = (line.split(",") for line in report.strip().splitlines()[:2])
    row = dict(zip(names, values, strict=False))
    try:
        return {
            "per_s": float(row["Inferences/Second"]),
            "ms_p50": float(row["p50 latency"]) / 1_000,
            "ms_p95": float(row["p95 latency"]) / 1_000,
            "ms_p99": float(row["p99 latency"]) / 1_000,
        }
    except KeyError as error:
        raise ConfigurationError(f"perf_analyzer wrote no column {error}") from error


def _with_server_side(
    run: Callable[[], Figures], triton: str, ensemble: str, clients: int
) -> Figures:
    """Add the mean time of a request in a closed loop, the server's part of it, and the rest."""
    before = asyncio.run(answered_so_far(triton, ensemble, timeout_s=STATISTICS_S))
    figures = run()
    after = asyncio.run(answered_so_far(triton, ensemble, timeout_s=STATISTICS_S))
    mean = 1_000 * clients / figures["per_s"]
    server = 1_000 * (after.seconds - before.seconds) / (after.count - before.count)
    return figures | {"ms_mean": mean, "ms_server": server, "ms_client": mean - server}


def _run_perf_analyzer(
    program: Path, arguments: Sequence[str], text: str, clients: int, seconds: int, folder: Path
) -> Figures:
    data, report = folder / "q.json", folder / "report.csv"
    data.write_bytes(msgspec.json.encode({"data": [{"TEXT": [text], "ROLE": ["query"]}]}))
    window_ms = seconds * 1_000 // PERF_ANALYZER_WINDOWS
    command = [
        *(str(program), *arguments),
        *("--input-data", str(data), "--shape", "TEXT:1", "--shape", "ROLE:1"),
        *("--concurrency-range", str(clients), "-p", str(window_ms)),
        *("-r", str(PERF_ANALYZER_WINDOWS), "-s", str(PERF_ANALYZER_STABLE_PERCENT)),
        *("--percentile", "95", "-f", str(report)),
    ]
    report.unlink(missing_ok=True)
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if not report.is_file():
        raise ConfigurationError(f"perf_analyzer failed: {(done.stderr or done.stdout)[-300:]}")
    return read_perf_analyzer(report.read_text())


def _run_locust(program: Path, url: str, seconds: int, folder: Path) -> Figures:
    users = round(CHECKED_RATE_PER_S)  # each of them once a second
    (folder / "locustfile.py").write_text(LOCUSTFILE)
    command = [
        *(str(program), "-f", str(folder / "locustfile.py"), "--headless", "--only-summary"),
        *("-u", str(users), "-r", str(users), "-t", f"{seconds}s", "-H", url),
        *("--csv", str(folder / "locust")),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    report = folder / "locust_stats.csv"
    if not report.is_file():
        raise ConfigurationError(f"locust failed: {(done.stderr or done.stdout)[-300:]}")
    return read_locust(report.read_text())


def _closed(
    place: Place, target: Target, clients: int, seconds: int, folder: Path | None = None
) -> Figures:
    scenario = Scenario(
        name="peer",
        load=Closed(clients=clients, duration_s=seconds, warm_up_s=1),
        target=(target,),
        slo=(Slo(availability=1.0),),
    )
    figures = run_scenario(scenario, folder or Path.cwd(), place).result.targets[1]
    told = {f"ms_{name}": ms for name, ms in figures.latency_ms.items()}
    return {"per_s": figures.answered_per_s, **told}


def _compare(
    name: str, theirs: Callable[[], Figures], ours: Callable[[], Figures], shown: tuple[str, ...]
) -> None:
    rounds = [(theirs(), ours()) for _ in range(ROUNDS)]
    typer.echo(f"median of {ROUNDS} rounds, which alternate:")
    for figure in shown:
        a = median(their[figure] for their, _ in rounds)
        b = median(our[figure] for _, our in rounds)
        typer.echo(f"{figure:8} {name} {a:.2f}, harness {b:.2f}: {100 * (b / a - 1):+.1f} %")


if __name__ == "__main__":
    app()
