"""Whether a search can be answered: asked of each part, bounded in time, never a hang."""

import asyncio
import logging
import time
from collections.abc import Awaitable

from gateway.doors import Doors
from gateway.errors import ConfigurationError, PixserveError, Unavailable
from gateway.schemas import Health

PROBE_S = 0.5  # each part has this long to answer
FRESH_S = 1.0  # an answer is given again for this long
PREPARE_S = 10.0  # for making the collections
RETRY_S = 0.5  # between tries to make them

log = logging.getLogger("pixserve.health")


class Readiness:
    """Knows what of the stack answers; asked often, it asks the stack once a second."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._asking = asyncio.Lock()
        self._answer: Health | None = None
        self._answered_s = 0.0
        self._index_problem = "its collections are not made yet"

    async def check(self) -> Health:
        """Return the health: ready, degraded (search answers with less), or unavailable."""
        async with self._asking:
            if self._answer is None or time.monotonic() - self._answered_s > FRESH_S:
                self._answer = await self._ask()
                self._answered_s = time.monotonic()
            return self._answer

    async def prepare_index(self) -> None:
        """Make the bundle's collections as soon as Milvus is there; ends when they are made."""
        while self._index_problem:
            try:
                await self._doors.milvus.ensure_collections(self._doors.bundle, timeout_s=PREPARE_S)
                self._index_problem = ""
                self._answer = None
            except Unavailable:
                await asyncio.sleep(RETRY_S)
            except ConfigurationError as error:
                self._index_problem = error.message
                log.error("%s", error.message)
                return

    async def _ask(self) -> Health:
        catalogue, milvus, triton = await asyncio.gather(
            _in_time(self._catalogue_answers()),
            _in_time(self._doors.milvus.ready(timeout_s=PROBE_S)),
            _in_time(self._doors.triton.ready(timeout_s=PROBE_S)),
        )
        missing = []
        if not catalogue:
            missing.append("catalogue: unavailable")
        if not milvus:
            missing.append("milvus: unavailable")
        elif self._index_problem:
            missing.append(f"milvus: {self._index_problem}")
        search_answers = not missing
        if not triton:
            missing.append("triton: unavailable")
        return Health(
            status=("degraded" if missing else "ready") if search_answers else "unavailable",
            degraded=tuple(missing),
            model_version=self._doors.bundle.id,
        )

    async def _catalogue_answers(self) -> bool:
        try:
            await self._doors.threads.call(self._doors.catalogue.current_bundle)
        except PixserveError:
            return False
        return True


async def _in_time(probe: Awaitable[bool]) -> bool:
    """Return what a probe says, or False when it says nothing in time."""
    try:
        return await asyncio.wait_for(probe, 2 * PROBE_S)
    except TimeoutError:
        return False
