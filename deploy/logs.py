"""The log files of a stack: one a part, and that of the run before."""

import os
from collections.abc import Iterable
from pathlib import Path

from deploy.state import make_writable

MAX_READ_BYTES = 256 * 1024  # of a log's end


def log_path(run_dir: Path, name: str) -> Path:
    """Return the log file of a part."""
    return run_dir / "logs" / f"{name}.log"


def rotate(run_dir: Path, names: Iterable[str]) -> None:
    """Keep the logs of the run before as `<part>.log.1`; raises `ConfigurationError`."""
    make_writable(run_dir / "logs")
    for name in names:
        path = log_path(run_dir, name)
        if path.exists():
            path.replace(path.with_suffix(".log.1"))


def log_size(path: Path) -> int:
    """Return a log's length in bytes, 0 where it is not there yet."""
    return path.stat().st_size if path.exists() else 0


def read_from(path: Path, position: int) -> str:
    """Return the end of what was written to a log since `position`."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        file.seek(max(position, end - MAX_READ_BYTES))
        return file.read().decode(errors="replace")
