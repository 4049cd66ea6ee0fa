"""Another process, under whose name a test holds jobs."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

CODE = "from ingest.owners import owner_name; print(owner_name(0), flush=True); input()"


@contextmanager
def started() -> "Iterator[tuple[subprocess.Popen[str], str]]":
    """A process that lives until it is killed, and the name under which it would hold jobs."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline().strip()
        process.kill()
