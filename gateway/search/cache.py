"""A bounded memory of the vectors made last, and what is being made for several at once."""

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np

from ensembles.arrays import FloatArray

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


@dataclass(frozen=True)
class _Place:
    """Where a vector is kept."""

    width: int
    row: int  # of the block of this width


class Cache(Generic[K]):
    """Keeps the `capacity` vectors that were used last; used from one event loop.

    The vectors lie in one block for each width, which is taken whole with the first of them: one by
    one among all that comes and goes they would cost a process three times their size, little by
    little for as long as the cache fills.

    `hits` and `misses` count the look-ups, `in_flight` has what is not there yet.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._places: OrderedDict[K, _Place] = OrderedDict()
        self._blocks: dict[int, FloatArray] = {}  # by width: (capacity, width)
        self._free: dict[int, list[int]] = {}  # by width: rows that hold nothing
        self.hits = 0
        self.misses = 0
        self.in_flight: InFlight[Mapping[str, FloatArray]] = InFlight()

    def get(self, key: K) -> FloatArray | None:
        """Return the vector of `key`, shape (width,), or None where it is not kept."""
        place = self._places.get(key)
        if place is None:
            self.misses += 1
            return None
        self.hits += 1
        self._places.move_to_end(key)
        kept: FloatArray = self._blocks[place.width][place.row]
        return kept.copy()  # its row may be another's soon

    def put(self, key: K, vector: FloatArray) -> None:
        """Keep a vector, shape (width,); the one that was not used for longest makes room."""
        if not self._capacity:
            return
        if key in self._places:
            self._let_go(self._places.pop(key))
        elif len(self._places) == self._capacity:
            self._let_go(self._places.popitem(last=False)[1])
        width = len(vector)
        if width not in self._blocks:
            self._blocks[width] = np.full((self._capacity, width), 0, np.float32)
            self._free[width] = list(range(self._capacity))
        row = self._free[width].pop()
        self._blocks[width][row] = vector
        self._places[key] = _Place(width, row)

    def _let_go(self, place: _Place) -> None:
        self._free[place.width].append(place.row)

    def __len__(self) -> int:
        return len(self._places)
