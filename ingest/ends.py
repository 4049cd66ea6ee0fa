"""How a worker ended that is dead: by a crash of its own, or killed from outside.

A video whose analysis brings its worker down is tried a few times and then refused; one that a
deployment or an operator interrupted is innocent. So a worker keeps a note while it lives. A
crash (a bad address, an abort) adds its traceback to it, and the kernel counts the processes that
it killed for want of memory. A worker that is dead without either was killed from outside.
"""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.settings import Settings
from ingest.owners import is_dead, owner_name, process_of

NOTES = "workers"  # in the run folder
VMSTAT = Path("/proc/vmstat")
OOM_COUNTER = "oom_kill"  # processes killed for want of memory since the boot, on the whole machine


def run_folder(settings: Settings) -> Path:
    """Return the folder in which the processes of this machine note what they are."""
    return settings.data_path / "run"


@contextmanager
def noted(run_dir: Path) -> Iterator[None]:
    """Keep a note of this process, as a holder of jobs, until it ends in an orderly way."""
    path = _note_of(run_dir, owner_name(0))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as note:
        note.write(_oom_kills())
        note.flush()
        faulthandler.enable(note)
        try:
            yield
        finally:
            faulthandler.disable()
            path.unlink(missing_ok=True)


def was_killed_from_outside(run_dir: Path, name: str) -> bool:
    """Tell of a dead worker whether nothing that it worked on can have ended it; no in doubt."""
    try:
        return _note_of(run_dir, name).read_text() == _oom_kills()
    except FileNotFoundError:
        return False


def forget_dead(run_dir: Path) -> None:
    """Remove the notes of dead workers whose jobs are free again."""
    for note in (run_dir / NOTES).glob("*"):
        if is_dead(f"{note.name}-0"):
            note.unlink(missing_ok=True)


def _note_of(run_dir: Path, name: str) -> Path:
    return run_dir / NOTES / process_of(name)


def _oom_kills() -> str:
    """Return the line that counts them; "" where the kernel does not tell."""
    try:
        lines = VMSTAT.read_text().splitlines()
    except OSError:
        return ""
    return next((line for line in lines if line.startswith(f"{OOM_COUNTER} ")), "")
