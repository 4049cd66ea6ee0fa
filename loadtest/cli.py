"""`pixserve bench …`: measurements that anyone can repeat."""

from pathlib import Path
from typing import Annotated

import typer

from gateway.errors import ConfigurationError, InvalidRequest
from loadtest import bench_ingest_cli, quality_commands

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
    bench_ingest_cli.register(bench)
    quality_commands.register(bench)
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
    from loadtest.tables import add_latencies, latency_table, progress, show, write_report

    stack = find_stack(data_dir)
    with progress("embed", texts) as advance:
        report = asyncio.run(
            bench_embed(stack, unique_queries(texts), lambda _done, _total: advance())
        )
    table = latency_table(f"embed_query, {report.bundle}, one client")
    for name in ("triton_query", "bare_query", "triton_text", "bare_text"):
        add_latencies(table, name.replace("_", " "), getattr(report, name))
    show(table)
    overhead_ms = report.triton_query.ms_p50 - report.bare_query.ms_p50
    text_overhead_ms = report.triton_text.ms_p50 - report.bare_text.ms_p50
    typer.echo(
        f"overhead of Triton at p50: {overhead_ms:+.2f} ms for both towers, "
        f"{text_overhead_ms:+.2f} ms for the sentence encoder alone; "
        f"least cosine between the two ways: {report.least_cosine:.6f}"
    )
    write_report(json, report)


@bench.command()
def search(
    data_dir: DataDir = Path("pixserve-data"),
    clients: Annotated[
        list[int] | None,
        typer.Option(help="At once. Repeatable; by default 1 and 8, with --rows 1."),
    ] = None,
    queries: Annotated[int, typer.Option(min=100, help="A run.")] = 2_000,
    rows: Annotated[
        list[int] | None,
        typer.Option(min=40, help="Measure the search alone, on so many segments. Repeatable."),
    ] = None,
    milvus: Annotated[
        str,
        typer.Option(help="Measure the search alone, on this Milvus. --rows: 1,000 and 10,000."),
    ] = "",
    json: Json = None,
) -> None:
    """Time searches in a closed loop: of a whole stack, or with --rows of the search alone.

    Without --rows: GET /v1/search of the stack of --data-dir, over the videos that it holds: HTTP,
    gateway, Triton and Milvus, as a client sees them.

    With --rows (or --milvus): no stack is needed and --data-dir is not read. The gateway's search
    runs in this process over as many synthetic segments of 768 numbers, in a Milvus that holds
    nothing else; embeddings are ready at once, so Triton is not measured. Each leg's recall and the
    bare index stand beside.
    """
    if rows or milvus:
        from loadtest.sizes import DEFAULT_ROWS, measure_sizes

        measure_sizes(rows or DEFAULT_ROWS, milvus, queries, clients or [1], json)
        return
    from loadtest.bench_search import bench_search
    from loadtest.queries import unique_queries
    from loadtest.stack import find_stack
    from loadtest.tables import add_latencies, latency_table, progress, show, write_report

    stack = find_stack(data_dir)
    counts = clients or [1, 8]
    texts = unique_queries(queries * len(counts))
    reports = []
    for run, count in enumerate(counts):
        with progress(f"search, {count} clients", queries) as advance:
            part = texts[run * queries : (run + 1) * queries]
            reports.append(bench_search(stack.gateway, part, count, advance))
    for report in reports:
        table = latency_table(
            f"GET /v1/search, {report.clients} clients: {report.per_s:.0f} searches a second, "
            f"{report.failed} failed, {report.degraded} degraded"
        )
        add_latencies(table, "client", report.latency)
        for stage, times in report.stages.items():
            add_latencies(table, f"  {stage}", times)
        show(table)
    write_report(json, reports)


@bench.command()
def demo(
    data_dir: DataDir = Path("pixserve-data"),
    json: Json = None,
) -> None:
    """Ask the demo's paraphrased queries: is the right video first, the right moment near?"""
    from rich.table import Table

    from deploy.demo.topics import read_queries
    from gateway.client import Client
    from loadtest.bench_demo import bench_demo
    from loadtest.stack import demo_ids, find_stack
    from loadtest.tables import show, write_report

    stack = find_stack(data_dir)
    with Client(stack.gateway) as client:
        report = bench_demo(client, read_queries().paraphrase, demo_ids(stack))
    table = Table("query", "right video", "first video", "rank of the right segment")
    for answer in report.answers:
        table.add_row(
            answer.query,
            answer.right_video,
            answer.first_video or "none",
            str(answer.segment_rank or "none"),
        )
    show(table)
    typer.echo(
        f"{report.queries} queries: right video first {report.right_video_first}, right segment "
        f"first {report.right_segment_first}, among the first three "
        f"{report.right_segment_among_best}"
    )
    write_report(json, report)


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
    from loadtest.tables import models_table, progress, show, write_report

    wanted = tuple(model or ENSEMBLES)
    if unknown := set(wanted) - set(ENSEMBLES):
        raise InvalidRequest(f"no encoder {sorted(unknown)}; there are {', '.join(ENSEMBLES)}")
    with progress("models", len(wanted)) as advance:
        reports = asyncio.run(bench_all(data_dir, wanted, calls, advance))
    show(models_table(reports))
    write_report(json, reports)


@bench.command()
def rate(
    plain_data_dir: Annotated[
        Path,
        typer.Option(help="Where the profile is exported with --precision fp32."),
    ],
    data_dir: DataDir = Path("pixserve-data"),
    per_s: Annotated[float, typer.Option(min=0.1, help="Queries a second.")] = 10.0,
    seconds: Annotated[float, typer.Option(min=5, help="Each way.")] = 60.0,
    json: Json = None,
) -> None:
    """embed_query at a fixed rate, beside fp32 towers that pad, in this process."""
    import asyncio

    from ensembles.bundle import list_bundles
    from loadtest.bench_padded import bench_padded
    from loadtest.stack import find_stack, measured_bundle
    from loadtest.tables import add_latencies, latency_table, progress, show, write_report

    stack = find_stack(data_dir)
    models_dir = plain_data_dir.expanduser().resolve() / "models"
    plain = list_bundles(models_dir, stack.profile)
    if not plain:
        raise ConfigurationError(
            f"{stack.profile} is not exported to {models_dir}: pixserve export --profile "
            f"{stack.profile} --precision fp32 --data-dir {plain_data_dir}"
        )

    bundle = asyncio.run(measured_bundle(stack))
    with progress("rate", 2 * round(per_s * seconds)) as advance:
        report = asyncio.run(
            bench_padded(
                stack,
                bundle,
                (models_dir, plain[-1]),
                per_s=per_s,
                seconds=seconds,
                done=advance,
            )
        )
    table = latency_table(f"embed_query, {report.served}, {per_s:g} a second for {seconds:g} s")
    add_latencies(table, f"ours: {', '.join(report.served_precisions.values())}", report.ours)
    add_latencies(table, "padded fp32, in the process", report.padded)
    show(table)
    write_report(json, report)


@bench.command()
def precision(
    data_dir: DataDir = Path("pixserve-data"),
    profile: Annotated[str, typer.Option(help="Whose sentence encoder.")] = "mini",
    runs: Annotated[int, typer.Option(min=10, help="Of each file at each shape.")] = 200,
    json: Json = None,
) -> None:
    """A profile's sentence encoder in fp32 and int8, one thread; needs no running stack."""
    from loadtest.tables import precision_table, progress, show, write_report

    try:
        from loadtest.bench_precision import SHAPES, WARM_UP, bench_precision
    except ImportError as error:
        raise ConfigurationError(
            f"making int8 files needs the package {error.name}: pip install 'pixserve[export]'"
        ) from error

    models_dir = data_dir.expanduser().resolve() / "models"
    with progress("precision", WARM_UP + runs) as advance:
        report = bench_precision(models_dir, profile, runs, advance)
    show(precision_table(report, SHAPES))
    typer.echo(
        f"cosine (mean, least) to fp32 and neighbours kept: of {report.sentences} sentences; "
        f"the export kept {report.exported}"
    )
    write_report(json, report)


@bench.command(name="all")
def every(data_dir: DataDir = Path("pixserve-data")) -> None:
    """Run every measurement; the stack is started where it does not run, and stopped again."""
    from loadtest.stack import describe_machine, find_stack, running_stack

    with running_stack(data_dir):
        typer.echo(describe_machine())
        embed(data_dir)
        search(data_dir)
        bench_ingest_cli.ingest(data_dir, demo=True)
        demo(data_dir)
        models(data_dir, calls=CALLS_OF_ALL)
        precision(data_dir, find_stack(data_dir).profile, runs=CALLS_OF_ALL)
