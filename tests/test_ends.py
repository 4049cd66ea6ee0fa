import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ingest import ends
from ingest.ends import NOTES, forget_dead, noted, was_killed_from_outside
from ingest.owners import owner_name

CODE = """
import os, sys
from pathlib import Path
from ingest.ends import noted
from ingest.owners import owner_name
with noted(Path(sys.argv[1])):
    print(owner_name(0), flush=True)
    end = input()
    if end == "abort":
        os.abort()
"""


def ended(run_dir: Path, end: str) -> str:
    """Let a worker end in some way; return the name under which it would have held jobs."""
    with subprocess.Popen(
        [sys.executable, "-c", CODE, str(run_dir)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        name = process.stdout.readline().strip()
        if end == "kill":
            process.kill()
        process.communicate(f"{end}\n" if end != "kill" else None)
    expected = {"kill": -signal.SIGKILL, "abort": -signal.SIGABRT, "orderly": 0}
    assert process.returncode == expected[end]
    return name


@pytest.mark.parametrize(("end", "killed"), [("kill", True), ("abort", False), ("orderly", False)])
def test_a_kill_is_told_apart_from_a_crash(tmp_path: Path, end: str, killed: bool) -> None:
    assert was_killed_from_outside(tmp_path, ended(tmp_path, end)) is killed


def test_where_the_kernel_has_killed_for_memory_no_worker_is_innocent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = ended(tmp_path, "kill")
    counters = tmp_path / "vmstat"
    counters.write_text("nr_free_pages 1\noom_kill 999999\n")
    monkeypatch.setattr(ends, "VMSTAT", counters)
    assert not was_killed_from_outside(tmp_path, name)


def test_the_notes_of_the_dead_are_forgotten_and_those_of_the_living_kept(tmp_path: Path) -> None:
    dead = ended(tmp_path, "kill")
    with noted(tmp_path):
        forget_dead(tmp_path)
        assert [note.name for note in (tmp_path / NOTES).iterdir()] == [
            owner_name(0).rpartition("-")[0]
        ]
    assert not was_killed_from_outside(tmp_path, dead)
    assert list((tmp_path / NOTES).iterdir()) == []


def test_a_bug_that_ends_a_worker_is_no_kill(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), noted(tmp_path):
        raise RuntimeError("a bug")
    assert not was_killed_from_outside(tmp_path, owner_name(0))
