"""Puts hostile files through ingest, as far as Triton's door, and holds what each costs to limits.

    python -m tests.hostile --files 500 --seed 1

Each must be refused with a typed reason or be analysed, within 30 s of processor time and 1 GiB;
no file may make anything open another file or connect anywhere. What Triton's decoding models do is
done here by the same functions. Exit code 1: one of them broke a rule.
"""

import asyncio
import os
import select
import socket
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import psutil
import typer

from gateway.errors import InvalidRequest, MediaRefused
from gateway.settings import Settings
from ingest.pipeline import AnalysisRequest, analyse
from ingest.sandbox import SANDBOX
from tests.hostile_files import Hostile, Lures, hostile_files
from tests.test_pipeline import BUNDLE, ProjectingEmbedder

MAX_CPU_S = 30.0
MAX_MEMORY_MIB = 1_024.0
SAMPLE_S = 0.02  # between looks at the memory of what decodes
MIB = 2**20


@dataclass(frozen=True)
class Result:
    """What became of one file."""

    kind: str
    name: str
    outcome: str  # indexed, refused: REASON, or broke: what was raised
    cpu_s: float
    wall_s: float
    memory_mib: float  # of the largest process that decoded

    @property
    def is_held(self) -> bool:
        """Whether it kept to all limits."""
        typed = not self.outcome.startswith("broke")
        return typed and self.cpu_s <= MAX_CPU_S and self.memory_mib <= MAX_MEMORY_MIB


@dataclass(frozen=True)
class Report:
    """What became of all."""

    results: tuple[Result, ...]
    visits: int  # connections to where files point, and openings of the file that they name

    @property
    def outcomes(self) -> Counter[str]:
        return Counter(result.outcome for result in self.results)

    @property
    def broken(self) -> list[Result]:
        return [result for result in self.results if not result.is_held]


def run(folder: Path, count: int, seed: int, done: Callable[[Result], None]) -> Report:
    """Try so many files; `done` is told of each."""
    results = []
    with lured(folder) as (lures, visits):
        try:
            for hostile in hostile_files(folder / "files", count, seed, lures):
                results.append(_tried(hostile))
                done(results[-1])
                hostile.path.unlink()
        finally:
            SANDBOX.close()
        return Report(tuple(results), visits())


@contextmanager
def lured(folder: Path) -> Iterator[tuple[Lures, Callable[[], int]]]:
    """Give what hostile files point at, and what counts who came there.

    Args:
        folder: where the file is that they name.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        secret = folder / "secret.mp4"
        secret.write_bytes(b"nobody opens this")
        os.utime(secret, (0, time.time()))  # an access older than the change is always noted

        def visits() -> int:
            connected = bool(select.select([server], [], [], 0)[0])
            return int(connected) + int(secret.stat().st_atime > 0)

        yield Lures(secret, f"http://127.0.0.1:{server.getsockname()[1]}/lure.mp4"), visits


def _tried(hostile: Hostile) -> Result:
    SANDBOX.enforced()  # it runs, so that its start is not counted
    me = psutil.Process()
    begun_s, cpu_begun_s = time.monotonic(), _cpu_s(me)
    with _Memory(me) as memory:
        outcome = _outcome(hostile.path)
    return Result(
        kind=hostile.kind,
        name=hostile.path.name,
        outcome=outcome,
        cpu_s=_cpu_s(me) - cpu_begun_s,
        wall_s=time.monotonic() - begun_s,
        memory_mib=memory.mib,
    )


def _outcome(path: Path) -> str:
    async def nothing() -> None:
        request = AnalysisRequest("hostile", 0, BUNDLE)
        await analyse(path, request, Settings(), ProjectingEmbedder(), lambda *_: None)

    try:
        asyncio.run(nothing())
    except MediaRefused as error:
        return f"refused: {error.reason}"
    except InvalidRequest as error:
        return f"refused: {error.kind}"
    except Exception as error:  # anything else is what is looked for here
        return f"broke: {type(error).__name__}: {error}"
    return "indexed"


def _cpu_s(me: psutil.Process) -> float:
    """Return what this process and those below it have used, with children that have ended."""
    total = 0.0
    for process in (me, *me.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])
    return total


class _Memory:
    """Watches the largest of the processes below one."""

    def __init__(self, me: psutil.Process) -> None:
        self.mib = 0.0
        self._me = me
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "_Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            for process in self._me.children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    self.mib = max(self.mib, process.memory_info().rss / MIB)


def main(
    files: Annotated[int, typer.Option(min=1, help="How many.")] = 500,
    seed: Annotated[int, typer.Option(help="Of the files.")] = 1,
) -> None:
    """Try hostile files, and say what became of them."""
    with tempfile.TemporaryDirectory() as folder:

        def done(result: Result) -> None:
            if not result.is_held:
                typer.echo(f"{result.name}: {result}", err=True)

        report = run(Path(folder), files, seed, done)
    for outcome, count in sorted(report.outcomes.items()):
        typer.echo(f"{count:5} {outcome}")
    results = report.results
    typer.echo(
        f"{len(results)} files: at most {max(r.cpu_s for r in results):.1f} s of processor time, "
        f"{max(r.memory_mib for r in results):.0f} MiB, {max(r.wall_s for r in results):.1f} s; "
        f"{report.visits} visits elsewhere, {len(report.broken)} rules broken"
    )
    raise typer.Exit(1 if report.broken or report.visits else 0)


if __name__ == "__main__":
    typer.run(main)
