"""The sizes of `pixserve bench search`: one corpus after the other, measured, told, removed."""

import asyncio
import logging
import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import typer

from loadtest.bench_search_sizes import SizeReport, bench_size
from loadtest.engine import embedded_engine
from loadtest.queries import unique_queries
from loadtest.settled import settle
from loadtest.stack import describe_machine
from loadtest.synthetic import synthetic_doors
from loadtest.tables import add_latencies, latency_table, progress, show, write_report

DEFAULT_ROWS = (1_000, 10_000)
SETTLE_S = 7_200.0  # for Milvus to index half a million rows on two cores
QUERY_SEED = 71  # not the corpus': no query is the text of a segment


def measure_sizes(
    rows: Sequence[int], milvus: str, queries: int, clients: Sequence[int], json: Path | None
) -> None:
    """Measure one engine at some sizes and print what came out.

    Args:
        rows: the sizes.
        milvus: the address of a running Milvus; "": the embedded engine, started for this.
        queries: of each measurement.
        clients: searches at once; each number is measured.
        json: where the report goes too.
    """
    logging.getLogger("pixserve").addHandler(logging.NullHandler())  # an engine's questions
    typer.echo(describe_machine())
    reports: list[SizeReport] = []
    with tempfile.TemporaryDirectory(prefix="pixserve-bench-") as name:
        folder = Path(name)
        with nullcontext(milvus) if milvus else embedded_engine(folder) as uri:
            for size in rows:
                for report in asyncio.run(_size(folder, uri, size, queries, clients)):
                    reports.append(report)
                    _show(report)
    write_report(json, reports)


async def _size(
    folder: Path, uri: str, rows: int, queries: int, clients: Sequence[int]
) -> list[SizeReport]:
    texts = unique_queries(queries, QUERY_SEED)
    reports = []
    with progress(f"{rows:,} rows", rows) as advance:
        told = 0

        def filled(there: int, _total: int) -> None:
            nonlocal told
            while told < there:
                advance()
                told += 1

        async with synthetic_doors(folder, uri, rows, filled) as doors:
            await settle(uri, doors.bundle, ("speech", "visual"), timeout_s=SETTLE_S)
            for count in clients:
                reports.append(await bench_size(doors, rows, texts, count, lambda: None))
    return reports


def _show(report: SizeReport) -> None:
    table = latency_table(
        f"{report.rows:,} rows, {report.clients} clients: {report.per_s:.0f} searches a second"
    )
    for leg, found in report.legs.items():
        recall = "" if found.recall is None else f", recall@100 {found.recall:.3f}"
        add_latencies(table, f"{leg} alone{recall}", found.latency)
    add_latencies(table, "all legs at once, bare", report.bare)
    add_latencies(table, "search", report.search)
    for stage, times in report.stages.items():
        add_latencies(table, f"  {stage}", times)
    show(table)
    typer.echo(
        f"processor time of this process: {report.cpu_ms_search:.2f} ms a search, "
        f"{report.cpu_ms_bare:.2f} ms of them for the bare legs"
    )
    for reason, count in report.degraded.items():
        typer.echo(f"left out {count} times: {reason}")
