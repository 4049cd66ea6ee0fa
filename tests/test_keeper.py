import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without type information
import pytest

from deploy import keeper
from deploy.process import Launch, describe_exit, start
from deploy.state import hold, is_held, read_state
from tests.supervised import is_ready, left_of, pid_of, shared_memory, supervisor
from tests.waiting import until


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    yield folder
    assert left_of(folder) == []


def test_sigterm_of_the_supervisor_leaves_nothing(run_dir: Path) -> None:
    with supervisor(run_dir, "web", "stubborn") as process:
        assert len(left_of(run_dir)) >= 5  # supervisor, web, stubborn, its grandchild, its region
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert left_of(run_dir) == []
        assert sorted(path.name for path in run_dir.iterdir()) == ["logs"]
        assert sorted(path.name for path in run_dir.parent.iterdir()) == ["run"]


def test_sigkill_of_the_supervisor_leaves_nothing(run_dir: Path) -> None:
    with supervisor(run_dir, "web", "stubborn") as process:
        process.kill()
    assert left_of(run_dir) == []
    assert read_state(run_dir) is None


def test_a_stack_starts_where_another_was_killed(run_dir: Path) -> None:
    with supervisor(run_dir, "stubborn") as process:
        process.kill()
        process.wait()
        with supervisor(run_dir, "stubborn"):
            pass


def test_sigkill_of_a_keeper_leaves_nothing_of_its_part_which_starts_again(run_dir: Path) -> None:
    with supervisor(run_dir, "stubborn", "web") as process:
        web = pid_of(run_dir, "web")
        pid = pid_of(run_dir, "stubborn")
        before = left_of(run_dir)
        parent = psutil.Process(pid).parent()
        assert parent is not None
        parent.kill()
        until(lambda: not psutil.pid_exists(pid))
        until(lambda: is_ready(run_dir, process.pid) and pid_of(run_dir, "stubborn") != pid)
        assert len(left_of(run_dir)) == len(before)
        assert pid_of(run_dir, "web") == web


def test_a_second_sigterm_does_not_wait_for_parts_that_refuse_the_first(run_dir: Path) -> None:
    log = run_dir / "logs" / "stubborn-patient.log"
    with supervisor(run_dir, "stubborn-patient") as process:
        process.terminate()
        until(lambda: "SIGTERM refused" in log.read_text())
        process.terminate()
        assert process.wait(timeout=5) == 0


def test_the_lock_is_held_until_the_last_keeper_is_done(run_dir: Path) -> None:
    with hold(run_dir) as lock:
        copy = os.dup(lock)
    assert is_held(run_dir)
    os.close(copy)
    assert not is_held(run_dir)


def test_libraries_of_a_part_are_not_its_keepers(run_dir: Path) -> None:
    libraries = run_dir.parent / "libraries"
    libraries.mkdir()
    (libraries / "libm.so.6").touch()  # Python, which runs the keeper, does not start with this
    launch = Launch(
        command=("sh", "-c", "echo $LD_LIBRARY_PATH"),
        environment={**os.environ, "LD_LIBRARY_PATH": str(libraries)},
        folder=run_dir.parent,
    )

    async def run_it() -> int:
        with hold(run_dir) as lock:
            running = await start(launch, run_dir / "part.log", lock)
            code = await running.ended
            await running.stop(0)
            return code

    assert asyncio.run(run_it()) == 0
    assert (run_dir / "part.log").read_text() == f"{libraries}\n"


def test_shared_memory_of_others_stays(run_dir: Path) -> None:
    prefix = shared_memory(run_dir)
    region = keeper.SHARED_MEMORY / f"{prefix}region"
    region.touch()
    keeper.remove_shared_memory("")
    keeper.remove_shared_memory(f"{prefix}other")
    assert region.exists()
    keeper.remove_shared_memory(prefix)
    assert not region.exists()


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (3, "exit code 3"),
        (128 + signal.SIGSEGV, "killed by SIGSEGV"),
        (-signal.SIGKILL, "its keeper was killed by SIGKILL"),
        (255, "killed by signal 127"),
    ],
)
def test_exit_codes_are_told_in_words(code: int, words: str) -> None:
    assert describe_exit(code) == words
