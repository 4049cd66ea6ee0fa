"""A bounded memory of what was computed last, and what is being computed for several at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass
class _Call(Generic[V]):
    """A computation that runs, and how many wait for it."""

    task: asyncio.Task[V]
    waiting: int = 0


class InFlight(Generic[V]):
    """One computation for all who ask for the same while it runs; used from one event loop.

    `joined` counts those who did not begin one of their own.
    """

    def __init__(self) -> None:
        self._calls: dict[Hashable, _Call[V]] = {}
        self.joined = 0

    async def call(self, key: Hashable, make: Callable[[], Coroutine[None, None, V]]) -> V:
        """Return what `make` returns, or the one that runs under this key; raises what that does.

        When nobody waits any more, the computation is cancelled.
        """
        call = self._calls.get(key)
        if call is None:
            call = self._calls[key] = _Call(asyncio.create_task(make()))
            call.task.add_done_callback(lambda task: self._ended(key, task))
        else:
            self.joined += 1
        call.waiting += 1
        try:
            return await asyncio.shield(call.task)
        finally:
            call.waiting -= 1
            if not call.waiting and not call.task.done():
                self._calls.pop(key, None)
                call.task.cancel()

    def _ended(self, key: Hashable, task: asyncio.Task[V]) -> None:
        call = self._calls.get(key)
        if call is not None and call.task is task:  # not one that began after this was given up
            del self._calls[key]


class Cache(Generic[K, V]):
    """Keeps the `capacity` values that were used last; used from one event loop.

    `hits` and `misses` count the look-ups, `in_flight` has what is not there yet.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[K, V] = OrderedDict()
        self.hits = 0
        self.misses = 0
        self.in_flight: InFlight[Mapping[str, V]] = InFlight()

    def get(self, key: K) -> V | None:
        """Return the value of `key`, or None where it is not kept."""
        value = self._values.get(key)
        if value is None:
            self.misses += 1
            return None
        self.hits += 1
        self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V) -> None:
        """Keep `value`; the one that was not used for longest makes room."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)

    def __len__(self) -> int:
        return len(self._values)
