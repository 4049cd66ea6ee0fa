"""Whether a search can be answered: asked of each part, bounded in time, never a hang."""

import asyncio
import logging
import time
from collections.abc import Awaitable

from gateway.doors import Doors
from gateway.errors import ConfigurationError, PixserveError, Unavailable
from gateway.schemas import Health
from gateway.serving import Serving

PROBE_S = 0.5  # each part has this long to answer
FRESH_S = 1.0  # an answer is given again for this long
PREPARE_S = 10.0  # for making the collections
RETRY_S = 0.5  # between tries to make them

log = logging.getLogger("pixserve.health")


class Readiness:
    """Knows what of the stack answers; asked often, it asks the stack once a second."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._asking = asyncio.Lock()
        self._answer: Health | None = None
        self._answered_s = 0.0
        self._index_problem = "its collections are not made yet"

    async def check(self) -> Health:
        """Return the health: ready, degraded (search answers with less), or unavailable."""
        async with self._asking:
            answer = self._answer
            if answer is None or not self._is_fresh(answer):
                answer = self._answer = await self._ask()
                self._answered_s = time.monotonic()
            return answer

    def _is_fresh(self, answer: Health) -> bool:
        """Tell whether an answer may be given again: not after a switch."""
        is_current = answer.model_version == self._serving.doors.bundle.id
        return is_current and time.monotonic() - self._answered_s <= FRESH_S

    async def prepare_index(self) -> None:
        """Make the bundle's collections as soon as Milvus is there; ends when they are made."""
        while self._index_problem:
            try:
                doors = self._serving.doors
                await doors.milvus.ensure_collections(doors.bundle, timeout_s=PREPARE_S)
                self._index_problem = ""
                self._answer = None
            except Unavailable:
                await asyncio.sleep(RETRY_S)
            except ConfigurationError as error:
                self._index_problem = error.message
                log.error("%s", error.message)
                return

    async def _ask(self) -> Health:
        doors = self._serving.doors
        catalogue, milvus, triton = await asyncio.gather(
            _in_time(_catalogue_answers(doors)),
            _in_time(doors.milvus.ready(timeout_s=PROBE_S)),
            _in_time(doors.triton.ready(timeout_s=PROBE_S)),
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
            model_version=doors.bundle.id,
        )


async def _catalogue_answers(doors: Doors) -> bool:
    try:
        await doors.threads.call(doors.catalogue.versions.current)
    except PixserveError:
        return False
    return True


async def _in_time(probe: Awaitable[bool]) -> bool:
    """Return what a probe says, or False when it says nothing in time."""
    try:
        return await asyncio.wait_for(probe, 2 * PROBE_S)
    except TimeoutError:
        return False
