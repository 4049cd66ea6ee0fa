"""`pixserve bench …`: measurements that anyone can repeat."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from rich.table import Table

    from loadtest.bench_models import ModelReport
    from loadtest.bench_precision import PrecisionReport
    from loadtest.stats import Latencies

DataDir = Annotated[
    Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the stack that is measured.")
]
Json = Annotated[Path | None, typer.Option(help="Also write the report to this file.")]

CALLS_OF_ALL = 50  # of each encoder in `bench all`

bench = typer.Typer(
    no_args_is_help=True,
    help="Measure a running stack that holds the demo videos (make demo).",
)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.add_typer(bench, name="bench")


@bench.command()
def embed(
    data_dir: DataDir = Path("pixserve-data"),
    texts: Annotated[int, typer.Option(min=100, help="How many queries.")] = 2_000,
    json: Json = None,
) -> None:
    """Time embed_query through Triton beside the bare ONNX Runtime sessions: one client."""
    import asyncio

    from loadtest.bench_embed import bench_embed
    from loadtest.queries import unique_queries
    from loadtest.stack import find_stack

    stack = find_stack(data_dir)
    with _progress("embed", texts) as advance:
        report = asyncio.run(
            bench_embed(stack, unique_queries(texts), lambda _done, _total: advance())
        )
    table = _latency_table(f"embed_query, {report.bundle}, one client")
    for name in ("triton_query", "bare_query", "triton_text", "bare_text"):
        _add(table, name.replace("_", " "), getattr(report, name))
    _show(table)
    overhead_ms = report.triton_query.ms_p50 - report.bare_query.ms_p50
    text_overhead_ms = report.triton_text.ms_p50 - report.bare_text.ms_p50
    typer.echo(
        f"overhead of Triton at p50: {overhead_ms:+.2f} ms for both towers, "
        f"{text_overhead_ms:+.2f} ms for the sentence encoder alone; "
        f"least cosine between the two ways: {report.least_cosine:.6f}"
    )
    _write(json, report)


@bench.command()
def search(
    data_dir: DataDir = Path("pixserve-data"),
    clients: Annotated[list[int] | None, typer.Option(help="Repeatable.")] = None,
    queries: Annotated[int, typer.Option(min=100, help="A run.")] = 2_000,
    json: Json = None,
) -> None:
    """Time GET /v1/search in a closed loop, at 1 and at 8 clients."""
    from loadtest.bench_search import bench_search
    from loadtest.queries import unique_queries
    from loadtest.stack import find_stack

    stack = find_stack(data_dir)
    counts = clients or [1, 8]
    texts = unique_queries(queries * len(counts))
    reports = []
    for run, count in enumerate(counts):
        with _progress(f"search, {count} clients", queries) as advance:
            part = texts[run * queries : (run + 1) * queries]
            reports.append(bench_search(stack.gateway, part, count, advance))
    for report in reports:
        table = _latency_table(
            f"GET /v1/search, {report.clients} clients: {report.per_s:.0f} searches a second, "
            f"{report.failed} failed, {report.degraded} degraded"
        )
        _add(table, "client", report.latency)
        for stage, times in report.stages.items():
            _add(table, f"  {stage}", times)
        _show(table)
    _write(json, reports)


@bench.command()
def ingest(
    data_dir: DataDir = Path("pixserve-data"),
    json: Json = None,
) -> None:
    """Ingest the demo videos once more, as a new creator, and delete them again."""
    from deploy.demo.render import render_all
    from gateway.client import Client
    from loadtest.bench_ingest import bench_ingest
    from loadtest.stack import find_stack

    stack = find_stack(data_dir)
    videos = render_all(stack.data_dir / "demo", lambda _name, _done, _total: None)
    with Client(stack.gateway) as client, _progress("ingest", 2 * len(videos)) as advance:
        report = bench_ingest(client, videos, lambda _what: advance())
    typer.echo(
        f"{report.videos} videos, {report.video_s:.0f} s: {report.wall_s:.1f} s of wall time "
        f"({report.upload_s:.1f} s for the uploads), {report.times_real_time:.0f}× real time"
    )
    for failure in report.failed:
        typer.echo(f"failed: {failure}")
    _write(json, report)


@bench.command()
def quality(
    data_dir: DataDir = Path("pixserve-data"),
    json: Json = None,
) -> None:
    """Ask the demo's paraphrased queries: is the right video first, the right moment near?"""
    from rich.table import Table

    from deploy.demo.topics import read_queries
    from gateway.client import Client
    from loadtest.bench_quality import bench_quality
    from loadtest.stack import demo_ids, find_stack

    stack = find_stack(data_dir)
    with Client(stack.gateway) as client:
        report = bench_quality(client, read_queries().paraphrase, demo_ids(stack))
    table = Table("query", "right video", "first video", "rank of the right segment")
    for answer in report.answers:
        table.add_row(
            answer.query,
            answer.right_video,
            answer.first_video or "none",
            str(answer.segment_rank or "none"),
        )
    _show(table)
    typer.echo(
        f"{report.queries} queries: right video first {report.right_video_first}, right segment "
        f"first {report.right_segment_first}, among the first three "
        f"{report.right_segment_among_best}"
    )
    _write(json, report)


@bench.command()
def models(
    data_dir: DataDir = Path("pixserve-data"),
    model: Annotated[list[str] | None, typer.Option(help="Default: all. Repeatable.")] = None,
    calls: Annotated[int, typer.Option(min=20, help="Of one client, for each.")] = 200,
    json: Json = None,
) -> None:
    """Each encoder: the bare ONNX Runtime session, Triton with one client, Triton full."""
    import asyncio

    from loadtest.bench_models import ENSEMBLES, bench_all

    wanted = tuple(model or ENSEMBLES)
    if unknown := set(wanted) - set(ENSEMBLES):
        raise InvalidRequest(f"no encoder {sorted(unknown)}; there are {', '.join(ENSEMBLES)}")
    with _progress("models", len(wanted)) as advance:
        reports = asyncio.run(bench_all(data_dir, wanted, calls, advance))
    _show(_models_table(reports))
    _write(json, reports)


def _models_table(reports: "Sequence[ModelReport]") -> "Table":
    from rich.table import Table

    table = Table(title="encoders: one row, ms at p50; many, rows a second", title_justify="left")
    table.add_column("model")
    for column in ("bare", "Triton", "over", "floor", "cores", "full", "ratio", "ensemble", "MiB"):
        table.add_column(column, justify="right")
    for report in reports:
        table.add_row(
            f"{report.model} {report.precision}{' random' if report.random_weights else ''}",
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


@bench.command()
def precision(
    data_dir: DataDir = Path("pixserve-data"),
    profile: Annotated[str, typer.Option(help="Whose sentence encoder.")] = "mini",
    runs: Annotated[int, typer.Option(min=10, help="Of each file at each shape.")] = 200,
    json: Json = None,
) -> None:
    """A profile's sentence encoder in fp32 and int8, one thread; needs no running stack."""
    try:
        from loadtest.bench_precision import WARM_UP, bench_precision
    except ImportError as error:
        raise ConfigurationError(
            f"making int8 files needs the package {error.name}: pip install 'pixserve[export]'"
        ) from error

    models_dir = data_dir.expanduser().resolve() / "models"
    with _progress("precision", WARM_UP + runs) as advance:
        report = bench_precision(models_dir, profile, runs, advance)
    _show(_precision_table(report))
    typer.echo(
        f"cosine (mean, least) to fp32 and neighbours kept: of {report.sentences} sentences; "
        f"the export kept {report.exported}"
    )
    _write(json, report)


def _precision_table(report: "PrecisionReport") -> "Table":
    from rich.table import Table

    from loadtest.bench_precision import SHAPES

    title = f"{report.bundle}: sentence, one thread, ms at p50 by texts × tokens"
    table = Table(title=title, title_justify="left")
    table.add_column("file")
    shapes = [f"{texts} × {tokens}" for texts, tokens in SHAPES]
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


@bench.command(name="all")
def every(data_dir: DataDir = Path("pixserve-data")) -> None:
    """Run every measurement; the stack is started where it does not run, and stopped again."""
    from loadtest.stack import describe_machine, find_stack, running_stack

    with running_stack(data_dir):
        typer.echo(describe_machine())
        embed(data_dir)
        search(data_dir)
        ingest(data_dir)
        quality(data_dir)
        models(data_dir, calls=CALLS_OF_ALL)
        precision(data_dir, find_stack(data_dir).profile, runs=CALLS_OF_ALL)


@contextmanager
def _progress(what: str, total: int) -> Iterator[Callable[[], None]]:
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda: bar.advance(task)


def _latency_table(title: str) -> "Table":
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    table.add_column("ms")
    for column in ("p50", "p95", "p99", "max", "count"):
        table.add_column(column, justify="right")
    return table


def _add(table: "Table", name: str, times: "Latencies") -> None:
    shown = (times.ms_p50, times.ms_p95, times.ms_p99, times.ms_max)
    table.add_row(name, *(f"{ms:.2f}" for ms in shown), str(times.count))


def _show(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)


def _write(path: Path | None, report: object) -> None:
    import msgspec

    if path is not None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(report)))
