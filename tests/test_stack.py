import asyncio
import http.client
import os
import select
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy import keeper
from deploy.spec import Limits, Part, backoff_s
from deploy.state import StackState, hold, read_state
from gateway.errors import ConfigurationError, Conflict, Unavailable
from tests.supervised import (
    FAST,
    WAIT_S,
    Seen,
    get,
    left_of,
    mark_check,
    part,
    pid_of,
    stack_of,
    supervisor,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "run"
    yield folder
    assert left_of(folder) == []


Scene = Callable[[Seen], Awaitable[None]]


def run_stack(
    run_dir: Path,
    parts: list[Part],
    scene: Scene,
    limits: Limits = FAST,
    present: Path | None = None,
) -> Seen:
    """Run a stack in this process, play a scene once it is ready, stop it as Ctrl-C does."""
    seen = Seen()
    if present:
        present.touch()

    async def once_ready() -> None:
        await seen.until(lambda state: state.ready)
        await scene(seen)

    async def play() -> None:
        with hold(run_dir) as lock:
            running = asyncio.create_task(stack_of(run_dir, parts, seen, limits).run(lock))
            playing = asyncio.create_task(once_ready())
            await asyncio.wait({running, playing}, return_when=asyncio.FIRST_COMPLETED)
            playing.cancel()
            if not running.done():
                os.kill(os.getpid(), signal.SIGINT)
            await running
            await playing

    asyncio.run(play())
    return seen


async def nothing_happens(_: Seen) -> None:
    pass


def restarted(times: int) -> Callable[[StackState], bool]:
    """Whether the first part is back after that many restarts."""
    return lambda state: state.parts[0].restarts == times and state.ready


# ---- back-off -----------------------------------------------------------------------------------


@given(
    st.integers(min_value=0, max_value=10_000),
    st.floats(min_value=0.01, max_value=10),
    st.floats(min_value=1, max_value=100),
)
def test_the_back_off_doubles_up_to_its_limit(failures: int, first_s: float, factor: float) -> None:
    limits = Limits(first_backoff_s=first_s, last_backoff_s=first_s * factor)
    wait_s, longer_s = backoff_s(failures, limits), backoff_s(failures + 1, limits)
    assert backoff_s(0, limits) == first_s
    assert longer_s == pytest.approx(min(2 * wait_s, limits.last_backoff_s))


def test_the_default_back_off_goes_from_1_to_30_seconds() -> None:
    assert [backoff_s(n, Limits()) for n in range(7)] == [1, 2, 4, 8, 16, 30, 30]


# ---- coming up ----------------------------------------------------------------------------------


def test_a_part_is_starting_then_ready(run_dir: Path) -> None:
    seen = run_stack(run_dir, [part("web", run_dir)], nothing_happens)
    assert seen.phases("web") == ["starting", "ready"]
    ready = seen.states[-1].parts[0]
    assert ready.version == "1.0"
    assert ready.restarts == 0
    assert ready.pid is not None


def test_a_part_starts_after_those_it_needs_and_stops_before_them(run_dir: Path) -> None:
    parts = [
        part("witness-last", run_dir, after=("witness-middle",)),
        part("witness-middle", run_dir, after=("witness-first",)),
        part("witness-first", run_dir),
    ]
    seen = run_stack(run_dir, parts, nothing_happens)
    came_up = {
        p.name: next(i for i, s in enumerate(seen.states) if s.parts[n].state == "ready")
        for n, p in enumerate(parts)
    }
    assert sorted(came_up, key=came_up.__getitem__) == [
        "witness-first",
        "witness-middle",
        "witness-last",
    ]
    ends = (run_dir.parent / "ends").read_text().split()
    assert ends == ["witness-last", "witness-middle", "witness-first"]


def test_a_part_that_ends_at_its_first_start_ends_the_stack_with_its_reason(run_dir: Path) -> None:
    with pytest.raises(
        Unavailable, match=r"doomed did not start: exit code 4: the reason"
    ) as error:
        run_stack(run_dir, [part("web", run_dir), part("doomed", run_dir)], nothing_happens)
    assert error.value.part == "doomed"
    assert "doomed.log" in error.value.message
    assert read_state(run_dir) is None


def test_a_part_that_never_answers_ends_the_stack_with_what_it_waited_for(run_dir: Path) -> None:
    with pytest.raises(Unavailable, match=r"silent did not start: not ready after 1 s \(no mark"):
        run_stack(run_dir, [part("silent", run_dir)], nothing_happens)


def test_a_command_that_is_not_there_is_named(run_dir: Path) -> None:
    web = part("web", run_dir)
    assert web.launch is not None
    launch = replace(web.launch, command=("/nowhere/tritonserver",))
    with pytest.raises(Unavailable, match="cannot start /nowhere/tritonserver: No such file"):
        run_stack(run_dir, [replace(web, launch=launch)], nothing_happens)


def test_a_stack_that_is_late_says_what_it_waits_for(run_dir: Path) -> None:
    late = replace(part("silent", run_dir), start_s=60.0)
    with pytest.raises(Unavailable, match=r"not ready after 0.5 s: silent \(no mark yet\)"):
        run_stack(run_dir, [late], nothing_happens, replace(FAST, ready_s=0.5))


def test_logs_of_the_run_before_are_kept(run_dir: Path) -> None:
    log = run_dir / "logs" / "web.log"

    async def write(words: str) -> None:
        log.write_text(words)

    run_stack(run_dir, [part("web", run_dir)], lambda _: write("first"))
    run_stack(run_dir, [part("web", run_dir)], lambda _: write("second"))
    assert log.read_text() == "second"
    assert log.with_suffix(".log.1").read_text() == "first"


# ---- crashes ------------------------------------------------------------------------------------


def test_a_part_that_crashes_is_restarted_and_the_others_run_on(run_dir: Path) -> None:
    parts = [part("web", run_dir), part("witness-other", run_dir)]

    async def crash(seen: Seen) -> None:
        other = pid_of(run_dir, "witness-other")
        with suppress(http.client.HTTPException):  # it ends before it answers
            get(run_dir.parent / "web.mark", "/crash")
        await seen.until(restarted(1))
        assert pid_of(run_dir, "witness-other") == other

    seen = run_stack(run_dir, parts, crash)
    assert seen.phases("web") == ["starting", "ready", "restarting", "starting", "ready"]
    assert seen.phases("witness-other") == ["starting", "ready"]
    reasons = {p.detail for state in seen.states for p in state.parts if p.state == "restarting"}
    assert reasons == {"exit code 3: the web part crashes now"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_part_that_loses_a_process_is_restarted_if_it_must_be_whole(
    run_dir: Path, whole: bool
) -> None:
    stubborn = replace(part("stubborn", run_dir), whole=whole)

    async def kill_its_child(seen: Seen) -> None:
        (child,) = keeper.children(pid_of(run_dir, "stubborn"))
        ended = os.pidfd_open(child)
        os.kill(child, signal.SIGKILL)
        assert select.select([ended], [], [], WAIT_S)[0]
        os.close(ended)
        if whole:
            await seen.until(restarted(1))

    seen = run_stack(run_dir, [stubborn], kill_its_child)
    details = {p.detail for state in seen.states for p in state.parts if p.state == "restarting"}
    assert [detail.partition(":")[0] for detail in details] == ["it lost a process"] * whole


def test_each_crash_in_a_row_is_waited_for_longer(run_dir: Path) -> None:
    times: list[float] = []

    async def crash_and_crash(seen: Seen) -> None:
        for restarts in (1, 2, 3):
            killed_s = time.monotonic()
            os.kill(pid_of(run_dir, "web"), signal.SIGKILL)
            await seen.until(restarted(restarts))
            times.append(time.monotonic() - killed_s)

    seen = run_stack(run_dir, [part("web", run_dir)], crash_and_crash)
    assert times[0] >= FAST.first_backoff_s
    assert times[1] >= 2 * FAST.first_backoff_s
    assert times[2] >= 4 * FAST.first_backoff_s
    assert any("killed by SIGKILL" in p.detail for state in seen.states for p in state.parts)


def test_a_part_that_ran_long_enough_restarts_at_the_first_back_off(run_dir: Path) -> None:
    first_s, crashes = 0.05, 10
    limits = replace(FAST, first_backoff_s=first_s, last_backoff_s=60.0, stable_s=0.0)

    async def crash_often(seen: Seen) -> None:
        for restarts in range(1, crashes + 1):
            os.kill(pid_of(run_dir, "web"), signal.SIGKILL)
            await seen.until(restarted(restarts))

    started_s = time.monotonic()
    run_stack(run_dir, [part("web", run_dir)], crash_often, limits)
    assert time.monotonic() - started_s < first_s * (2**crashes - 1)  # of rests that double


# ---- parts that run elsewhere -------------------------------------------------------------------


def test_an_external_part_is_checked_and_not_started(run_dir: Path) -> None:
    seen = run_stack(
        run_dir, [external(run_dir)], nothing_happens, present=run_dir.parent / "there"
    )
    assert seen.phases("triton") == ["starting", "external"]
    assert seen.states[-1].parts[0].pid is None


def test_an_external_part_that_goes_away_and_comes_back_is_told(run_dir: Path) -> None:
    mark = run_dir.parent / "there"

    async def go_and_come_back(seen: Seen) -> None:
        mark.unlink()
        await seen.until(lambda state: not state.ready)
        mark.touch()
        await seen.until(lambda state: state.ready)

    seen = run_stack(run_dir, [external(run_dir)], go_and_come_back, present=mark)
    assert seen.phases("triton") == ["starting", "external", "failed", "external"]


def test_an_external_part_that_does_not_answer_at_the_start_ends_the_stack(run_dir: Path) -> None:
    with pytest.raises(Unavailable, match=r"triton at there:1 does not answer \(no mark yet\)"):
        run_stack(run_dir, [external(run_dir)], nothing_happens)


def external(run_dir: Path) -> Part:
    return Part("triton", "there:1", mark_check(run_dir.parent / "there"))


# ---- one stack a folder -------------------------------------------------------------------------


def test_a_second_stack_on_a_folder_is_refused_with_the_first_ones_pid(run_dir: Path) -> None:
    with (
        supervisor(run_dir, "web") as first,
        pytest.raises(Conflict, match=rf"pid {first.pid}\): stop it with pixserve down"),
        hold(run_dir),
    ):
        pass


def test_a_folder_that_cannot_be_written_to_is_named() -> None:
    with (
        pytest.raises(ConfigurationError, match=r"cannot write to /sys/pixserve/run: .*--data-dir"),
        hold(Path("/sys/pixserve/run")),
    ):
        pass
