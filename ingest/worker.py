"""`python -m ingest.worker`: the process that does the jobs, at a lower priority than searches."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial

import uvloop

from ensembles.priorities import yield_to_searches
from gateway.api.logs import log_to_stderr
from gateway.catalogue.claims import ClaimedJob, Lane
from gateway.doors import Doors, open_doors
from gateway.errors import PixserveError
from gateway.serving import Serving
from gateway.settings import Settings, settings_from_environment
from ingest.arrivals import Arrivals
from ingest.catch_up import catch_up
from ingest.ends import forget_dead, noted, run_folder, was_killed_from_outside
from ingest.jobs import run
from ingest.owners import is_dead, owner_name
from ingest.sandbox import SANDBOX
from ingest.tasks import repair_copies
from ingest.transcripts.speech import find_model
from ingest.turns import Turns

LANES = 2  # jobs at once: while one waits for Triton, the other decodes
REPAIR_S = 1.0  # between looks for metadata that the index has not got
REPAIR_BATCH = 16
DEAD_S = 0.5  # between looks for jobs of workers that died on this machine
PURGE_S = 3_600.0  # between looks for ended jobs to forget
TROUBLE_S = 1.0  # rest after the catalogue did not answer
READY_FILE = "worker.ready"

log = logging.getLogger("pixserve.worker")


async def work(settings: Settings) -> None:
    """Do jobs until SIGTERM or SIGINT; a job that runs then goes back to the queue.

    Raises:
        ConfigurationError: no bundle is exported, the model that hears speech is missing, or the
            sandbox does not start.
        Unavailable: the catalogue cannot be reached.
    """
    if settings.whisper:
        find_model(settings)  # what is missing is told now, not with each video
    await asyncio.to_thread(SANDBOX.enforced)  # starts it: the first video need not wait for that
    serving = Serving(open_doors(settings))
    doors = serving.doors
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    looking, turns = asyncio.Lock(), Turns(LANES)
    lanes = [_lane(serving, owner_name(lane), looking, turns) for lane in range(LANES)]
    # One video at a time is heard, and keeps none of these lanes from another one.
    hearing = _lane(serving, owner_name("hearing"), asyncio.Lock(), Turns(1), "hearing")
    chores = (
        _again(
            REPAIR_S,
            "bring metadata into the index",
            lambda: repair_copies(serving.doors, REPAIR_BATCH),
        ),
        _again(DEAD_S, "look for dead workers", lambda: _free_dead(doors)),
        _again(PURGE_S, "forget ended jobs", lambda: _purge(doors)),
    )
    with suppress(PixserveError):  # the chore tells of it, and tries again
        await _free_dead(doors)  # before a lane claims what they held as if they had crashed
    tasks = [asyncio.create_task(task) for task in (*lanes, hearing, *chores, serving.follow())]
    ready = run_folder(settings) / READY_FILE
    ready.parent.mkdir(parents=True, exist_ok=True)
    ready.write_text(f"{os.getpid()}\n")
    log.info("the worker is ready, process %d", os.getpid())
    try:
        await _first(stop, tasks)
    finally:
        ready.unlink(missing_ok=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        SANDBOX.close()  # ends what still decodes for a job that was given back
        await serving.close()


async def _first(stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> None:
    """Return when told to stop; a task that ends before that is a bug, and raises it."""
    stopping = asyncio.create_task(stop.wait())
    done, _ = await asyncio.wait((stopping, *tasks), return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    for task in done - {stopping}:
        await task


async def _lane(
    serving: Serving, name: str, looking: asyncio.Lock, turns: Turns, lane: Lane = "analyses"
) -> None:
    """Do one job after the other; of those that share a lock one at a time looks for the next."""
    while True:
        async with looking:
            job = await _next_job(serving.doors, name, lane)
        doors = serving.doors
        try:
            await run(doors, job, turns)
            await catch_up(doors, job)
        except PixserveError as error:
            log.warning("job %s is left until its lease ends: %s", job.id, error)


async def _next_job(doors: Doors, name: str, lane: Lane) -> ClaimedJob:
    """Wait until a job is due, and claim it."""
    jobs, settings = doors.catalogue.jobs, doors.settings
    arrivals = Arrivals.of(settings)
    while True:
        arrivals.note()
        try:
            if await doors.threads.call(jobs.is_due, lane):
                lease_s = settings.job_lease_s
                job = await doors.threads.call(jobs.claim, name, lease_s=lease_s, lane=lane)
                if job is not None:
                    return job
        except PixserveError as error:
            log.warning("cannot look for jobs: %s", error)
            await asyncio.sleep(TROUBLE_S)
        await arrivals.wait()


async def _again(pause_s: float, what: str, chore: Callable[[], Awaitable[None]]) -> None:
    """Do a chore again and again; what goes wrong is told, and tried again."""
    while True:
        try:
            await chore()
        except PixserveError as error:
            log.warning("cannot %s: %s", what, error)
            await asyncio.sleep(TROUBLE_S)
        await asyncio.sleep(pause_s)


async def _free_dead(doors: Doors) -> None:
    """Take over at once what a predecessor held that was killed: its lease need not end."""
    was_killed = partial(was_killed_from_outside, run_folder(doors.settings))
    freed = await doors.threads.call(doors.catalogue.control.free_dead, is_dead, was_killed)
    if freed:
        log.warning("%d jobs of dead workers are free again", freed)


async def _purge(doors: Doors) -> None:
    """Forget ended jobs, a batch at a time, so that nobody waits long for the catalogue."""
    await _free_dead(doors)  # before the notes of the dead are gone
    await doors.disk.call(forget_dead, run_folder(doors.settings))
    while purged := await doors.threads.call(doors.catalogue.control.purge):
        log.info("forgot %d jobs that ended long ago", purged)


def main() -> None:
    """Run the worker with the settings of the environment."""
    log_to_stderr()
    yield_to_searches()
    try:
        settings = settings_from_environment()
        with noted(run_folder(settings)):
            uvloop.run(work(settings))
    except PixserveError as error:
        sys.exit(f"pixserve worker: {error.message}")


if __name__ == "__main__":
    main()
