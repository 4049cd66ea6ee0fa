"""The bulk part of `pixserve ingest`: files of this machine, analysed many at once."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from gateway.commands.local import open_local
from gateway.commands.terminal import shown

if TYPE_CHECKING:
    from ingest.bulk import Taken
    from ingest.engines import Engine
    from ingest.manifest import Item

CLEAR_LINE = "\r\x1b[K"


def run_bulk(items: "Iterator[Item]", workers: int, ray: str, data_dir: Path) -> int:
    """Take files in beside a running stack; return the exit code.

    Args:
        items: what to take in.
        workers: videos at once.
        ray: the address of a Ray cluster; "": processes of this machine.
        data_dir: of the stack.

    Raises:
        ConfigurationError: no stack runs there, or Ray is not installed.
        InvalidRequest: a row of a manifest is wrong.
    """
    logging.getLogger("pixserve").addHandler(logging.NullHandler())  # errors are told below
    counts: Counter[str] = Counter()

    def done(taken: "Taken") -> None:
        counts[taken.state] += 1
        if taken.error:
            line = f"{CLEAR_LINE if sys.stderr.isatty() else ''}{_line(taken)}"
            typer.echo(line, err=True)
        if sys.stderr.isatty():
            typer.echo(f"{CLEAR_LINE}{counts.total():,} files", nl=False, err=True)

    engine = _engine(workers, ray)  # first: it forks, which threads and open connections disturb
    try:
        asyncio.run(_run(items, engine, data_dir, done))
    finally:
        engine.close()
        if sys.stderr.isatty():
            typer.echo(CLEAR_LINE, nl=False, err=True)
    there, failed = counts["existing"], counts["failed"]
    typer.echo(
        f"{counts.total():,} files: {counts['ready']:,} searchable now, {there:,} were there "
        f"already, {failed:,} failed"
    )
    return 1 if failed else 0


async def _run(
    items: "Iterator[Item]",
    engine: "Engine",
    data_dir: Path,
    done: "Callable[[Taken], None]",
) -> None:
    from ingest.bulk import bulk_ingest
    from ingest.sandbox import SANDBOX

    doors = open_local(data_dir)
    try:
        await bulk_ingest(doors, items, engine, done)
    finally:
        SANDBOX.close()
        await doors.close()


def _engine(workers: int, ray: str) -> "Engine":
    from ingest.engines import Processes, Ray

    return Ray(ray, workers) if ray else Processes(workers)


def _line(taken: "Taken") -> str:
    return shown(f"{taken.path.name}: {taken.error}").plain
