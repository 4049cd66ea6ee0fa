import asyncio

import pytest

from ingest.turns import Turns

pytestmark = pytest.mark.anyio


class Stage:
    """Jobs that say when they run, and end when they are told to."""

    def __init__(self, lanes: int) -> None:
        self.turns = Turns(lanes)
        self.running: list[str] = []

    def begin(
        self, name: str, *, alone: bool = False
    ) -> "tuple[asyncio.Task[None], asyncio.Event]":
        end = asyncio.Event()

        async def job() -> None:
            async with self.turns.turn(alone=alone):
                self.running.append(name)
                await end.wait()
                self.running.remove(name)

        return asyncio.create_task(job()), end


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_jobs_run_side_by_side_up_to_the_lanes() -> None:
    stage = Stage(2)
    jobs = [stage.begin(name) for name in "abc"]
    await settle()
    assert stage.running == ["a", "b"]
    jobs[0][1].set()
    await settle()
    assert stage.running == ["b", "c"]
    for task, end in jobs:
        end.set()
        await task


async def test_a_suspect_waits_for_the_others_and_then_runs_alone() -> None:
    stage = Stage(2)
    ordinary = stage.begin("ordinary")
    await settle()
    suspects = [stage.begin("suspect", alone=True), stage.begin("second", alone=True)]
    late = stage.begin("late")
    await settle()
    assert stage.running == ["ordinary"]

    jobs = [ordinary, suspects[0], late, suspects[1]]
    for (task, end), then in zip(jobs, (["suspect"], ["late"], ["second"], []), strict=True):
        end.set()
        await task
        await settle()
        assert stage.running == then


async def test_a_suspect_that_is_cancelled_while_it_waits_keeps_no_place() -> None:
    stage = Stage(2)
    ordinary = stage.begin("ordinary")
    await settle()
    suspect, _ = stage.begin("suspect", alone=True)
    await settle()
    suspect.cancel()
    with pytest.raises(asyncio.CancelledError):
        await suspect
    other = stage.begin("other")
    await settle()
    assert stage.running == ["ordinary", "other"]
    for task, end in (ordinary, other):
        end.set()
        await task
