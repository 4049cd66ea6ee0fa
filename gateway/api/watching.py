"""Tells listeners how jobs advance: one look at the catalogue serves all of them."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from gateway.catalogue.job_control import ENDED
from gateway.doors import Doors
from gateway.errors import Overloaded, PixserveError
from gateway.schemas import Job

MAX_LISTENERS = 256  # of one gateway
LOOK_S = 0.25  # between looks at the jobs that somebody listens to
HEARTBEAT_S = 15.0  # without an event, a sign of life is sent
LISTEN_S = 3_600.0  # then a listener is let go of, and may come again

log = logging.getLogger("pixserve.jobs")


@dataclass(eq=False)
class _Listener:
    """One client; it gets the newest state, however slowly it reads."""

    job_id: str
    newest: Job
    changed: asyncio.Event = field(default_factory=asyncio.Event)


class Watch:
    """The listeners of one gateway.

    Args:
        doors: whose catalogue has the jobs.
    """

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._listeners: set[_Listener] = set()
        self._looking: asyncio.Task[None] | None = None

    def require_place(self) -> None:
        """Raise `Overloaded` where nobody more may listen."""
        if len(self._listeners) >= MAX_LISTENERS:
            raise Overloaded(f"{MAX_LISTENERS} clients listen to jobs: ask for the job instead")

    async def states(self, job: Job) -> AsyncIterator[Job | None]:
        """Yield a job each time that it has changed, first as it is; None as a sign of life.

        Ends after the job has ended, or after `LISTEN_S`.
        """
        listener = _Listener(job.id, job)
        self._listeners.add(listener)
        self._look_on()
        loop = asyncio.get_running_loop()
        until = loop.time() + LISTEN_S
        try:
            yield job
            while listener.newest.state not in ENDED and loop.time() < until:
                try:
                    async with asyncio.timeout(HEARTBEAT_S):
                        await listener.changed.wait()
                except TimeoutError:
                    yield None
                    continue
                listener.changed.clear()
                yield listener.newest
        finally:
            self._listeners.discard(listener)

    def _look_on(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())

    async def _look(self) -> None:
        """Look again and again, as long as somebody listens."""
        while self._listeners:
            await asyncio.sleep(LOOK_S)
            wanted = {listener.job_id for listener in self._listeners}
            try:
                jobs = await self._doors.threads.call(self._doors.catalogue.control.many, wanted)
            except PixserveError as error:
                log.warning("cannot look at jobs for %d listeners: %s", len(wanted), error)
                continue
            for listener in self._listeners:
                job = jobs.get(listener.job_id)
                if job is not None and job != listener.newest:
                    listener.newest = job
                    listener.changed.set()

    async def close(self) -> None:
        """Stop looking."""
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)
