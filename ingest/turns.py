"""Whose turn it is among a worker's lanes: jobs side by side, suspects alone."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext


class Turns:
    """Lets jobs run together, and one that may bring others down run by itself.

    Args:
        lanes: jobs that run together at most.
    """

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._places = asyncio.Semaphore(lanes)  # served in the order of asking
        self._gathering = asyncio.Lock()  # two that each hold half of the places would wait forever

    @asynccontextmanager
    async def turn(self, *, alone: bool) -> AsyncIterator[None]:
        """Wait for a place, or for all of them."""
        taken = 0
        try:
            async with self._gathering if alone else nullcontext():
                for _ in range(self._lanes if alone else 1):
                    await self._places.acquire()
                    taken += 1
            yield
        finally:
            for _ in range(taken):
                self._places.release()
