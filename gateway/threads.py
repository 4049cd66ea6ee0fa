"""A small pool of threads through which async code calls what blocks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from gateway.errors import Overloaded

MAX_WAITING = 1_024  # calls in one pool, running and waiting

P = ParamSpec("P")
T = TypeVar("T")


class Threads:
    """Runs blocking functions beside the event loop; full, it refuses instead of queueing on.

    Args:
        workers: how many calls run at once.
        name: what waits here, for thread names and messages: `catalogue`, `disk`.
    """

    def __init__(self, workers: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._name = name
        self._calls = 0

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run `function` in a thread and return what it returns.

        Raises:
            Overloaded: `MAX_WAITING` calls are running and waiting already.
        """
        if self._calls >= MAX_WAITING:
            raise Overloaded(f"{self._calls} calls wait for the {self._name}; retry later")
        self._calls += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._pool, lambda: function(*args, **kwargs))
        finally:
            self._calls -= 1

    def close(self) -> None:
        """Wait for the calls that run, drop those that have not begun."""
        self._pool.shutdown(wait=True, cancel_futures=True)
