"""`pixserve loadtest …`: run scenarios, find capacity, compare runs, check the method itself."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import PixserveError

if TYPE_CHECKING:
    from loadtest.harness.firing import Stop
    from loadtest.harness.place import Place
    from loadtest.harness.run import Finished
    from loadtest.harness.scenario import Scenario

INVALID_EXIT = 2

Url = Annotated[str, typer.Option(help="Of the gateway. Default: the local stack's.")]
TritonAddress = Annotated[str, typer.Option(help="HOST:PORT, gRPC. Default: the local stack's.")]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the local stack; faults need it."),
]
Out = Annotated[Path | None, typer.Option(help="Folder for the results.")]
Name = Annotated[str, typer.Argument(help="A packaged scenario (see list), or a .toml file.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No live view.")]

loadtest = typer.Typer(
    no_args_is_help=True,
    help="Load tests with SLO verdicts. Exit codes: 0 held, 1 broken, 2 invalid or interrupted.",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(loadtest, name="loadtest")


@loadtest.command()
def run(
    scenario: Name,
    url: Url = "",
    triton: TritonAddress = "",
    data_dir: DataDir = None,
    out: Out = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Repeat a run exactly.")] = None,
    ray: Annotated[str, typer.Option(help="HOST:PORT or auto: a Ray cluster generates.")] = "",
    quiet: Quiet = False,
) -> None:
    """Run a scenario and write its report.

    Example: pixserve loadtest run slo-search --data-dir ~/videos
    """
    from loadtest.harness.report.markdown import run_markdown
    from loadtest.harness.write import default_folder, write_run

    with _usage_errors():
        wanted, folder = _read(scenario)
        place = _find(url, triton, data_dir, wanted)
        with _interruptible() as stop:
            finished = _run(wanted, folder, place, seed, stop, quiet=quiet, cluster=ray)
    target = out or default_folder(wanted.name)
    problem = write_run(target, finished)
    typer.echo(run_markdown(finished.result))
    typer.echo(f"pixserve: {problem}" if problem else f"report: {target / 'report.html'}", err=True)
    raise typer.Exit(finished.result.exit_code)


@loadtest.command(name="find-capacity")
def find_capacity(
    scenario: Name,
    url: Url = "",
    triton: TritonAddress = "",
    data_dir: DataDir = None,
    out: Out = None,
    start: Annotated[float, typer.Option(min=0.1, help="First rate, requests a second.")] = 20.0,
    most: Annotated[float, typer.Option(min=1, help="No rate over this.")] = 5_000.0,
    trial: Annotated[float, typer.Option(min=3, help="Seconds of one trial.")] = 30.0,
    precision: Annotated[float, typer.Option(min=0.01, max=1, help="0.05: within 5 %.")] = 0.05,
    quiet: Quiet = False,
) -> None:
    """Find the highest constant rate that holds a scenario's SLOs: doubling, then bisection."""
    from loadtest.harness.capacity import Search
    from loadtest.harness.capacity_run import capacity_report, search_capacity
    from loadtest.harness.write import default_folder, write_files

    with _usage_errors():
        wanted, folder = _read(scenario)
        place = _find(url, triton, data_dir, wanted)
        with _interruptible() as stop:
            done = search_capacity(
                wanted,
                Search(start, most, precision),
                trial,
                stop,
                lambda each, rate: _run(
                    each, folder, place, None, stop, quiet=quiet, label=f"{rate:g}/s"
                ),
            )
    target = out or default_folder(f"capacity-{wanted.name}")
    report = capacity_report(wanted, done, interrupted=stop.asked)
    problem = write_files(target, report.files)
    typer.echo(report.markdown)
    typer.echo(f"pixserve: {problem}" if problem else f"report: {target / 'report.html'}", err=True)
    raise typer.Exit(report.exit_code)


@loadtest.command()
def compare(
    a: Annotated[Path, typer.Argument(help="Folder of a run.")],
    b: Annotated[Path, typer.Argument(help="Folder of another run.")],
) -> None:
    """Compare two runs: better, worse or no difference, with 95 % intervals.

    Exit code 0: nothing got worse, 1: something did, 2: the runs cannot be compared.
    """
    from loadtest.harness.compare import compare_runs, comparison_table
    from loadtest.harness.report.markdown import table_markdown
    from loadtest.harness.results import read_histograms, read_result

    with _usage_errors():
        found = compare_runs(read_result(a), read_result(b), read_histograms(a), read_histograms(b))
    typer.echo(table_markdown(comparison_table(found)))
    for warning in found.warnings:
        typer.echo(f"> {warning}")
    raise typer.Exit(found.exit_code)


@loadtest.command()
def report(folder: Annotated[Path, typer.Argument(help="Of a run.")]) -> None:
    """Write the report of a run again, from its result.json; exits as the run did."""
    from loadtest.harness.report.markdown import run_markdown
    from loadtest.harness.results import read_result
    from loadtest.harness.write import run_files, write_files

    with _usage_errors():
        result = read_result(folder)
    files = run_files(result)
    problem = write_files(folder, files) if folder.is_dir() else ""
    typer.echo(run_markdown(result))
    if problem:
        typer.echo(f"pixserve: {problem}", err=True)
    raise typer.Exit(result.exit_code)


@loadtest.command(name="list")
def list_scenarios() -> None:
    """List the packaged scenarios."""
    from loadtest.harness.scenario_file import packaged_scenarios

    for name in packaged_scenarios():
        wanted, _ = _read(name)
        typer.echo(f"{name:24} {wanted.summary}")


@loadtest.command(name="load-corpus")
def load_corpus(
    data_dir: Annotated[
        Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the stack that runs.")
    ] = Path("pixserve-data"),
    segments: Annotated[int, typer.Option(min=1, max=10_000_000, help="In all.")] = 20_000,
) -> None:
    """Fill a running stack with synthetic segments, whose texts its own Triton embeds."""
    import asyncio
    import logging

    import msgspec
    from rich.progress import Progress

    from gateway.settings import settings_from_environment
    from loadtest.harness.corpus import load_corpus as load
    from loadtest.harness.place import find_place

    logging.getLogger("pixserve.milvus").setLevel(logging.ERROR)  # the engine tells no version
    place = find_place("", "", data_dir)
    state = place.state
    settings = msgspec.structs.replace(
        settings_from_environment(),
        data_dir=str(place.data_dir),
        profile=state.profile if state else "mini",
        allow_random_weights=True,
    )
    milvus = place.part("milvus").address
    with Progress(transient=True) as bar:
        task = bar.add_task("loading", total=segments)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        added = asyncio.run(load(settings, place.triton, milvus, segments, advance))
    typer.echo(f"{added:,} segments added; the corpus holds at least {segments:,}")


@loadtest.command()
def verify(
    rate: Annotated[
        float, typer.Option(min=10, help="Of the generator's check, a second.")
    ] = 1_000,
    seconds: Annotated[float, typer.Option(min=2, help="Of each check.")] = 20.0,
) -> None:
    """Check the method: known latencies, a planted stall, and the generator's own lateness."""
    from loadtest.harness.verify import verify_all

    text, good = verify_all(rate, seconds)
    typer.echo(text)
    raise typer.Exit(0 if good else 1)


# ---- what the commands share --------------------------------------------------------------------


def _read(name: str) -> "tuple[Scenario, Path]":
    from loadtest.harness.scenario_file import read_scenario

    return read_scenario(name)


def _find(url: str, triton: str, data_dir: Path | None, scenario: "Scenario") -> "Place":
    from loadtest.harness.place import find_place

    default = Path("pixserve-data") if not url else None
    return find_place(url, triton, data_dir or default, cold=scenario.cold)


def _run(
    scenario: "Scenario",
    folder: Path,
    place: "Place",
    seed: int | None,
    stop: "Stop",
    *,
    quiet: bool,
    label: str = "",
    cluster: str = "",
) -> "Finished":
    from loadtest.harness.live import live_view
    from loadtest.harness.run import run_scenario

    name = f"{scenario.name} {label}".strip()
    with live_view(name, quiet=quiet) as watch:
        return run_scenario(
            scenario, folder, place, seed=seed, watch=watch, stop=stop, cluster=cluster
        )


@contextmanager
def _usage_errors() -> Iterator[None]:
    """A run that could not even begin is an invalid one: exit code 2, in one line."""
    try:
        yield
    except PixserveError as error:
        typer.echo(f"pixserve: {error.message}", err=True)
        sys.exit(INVALID_EXIT)


@contextmanager
def _interruptible() -> "Iterator[Stop]":
    """Turn the first Ctrl-C or SIGTERM into a request to stop; the second ends at once."""
    from loadtest.harness.firing import Stop

    stop = Stop()

    def ask(_number: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
