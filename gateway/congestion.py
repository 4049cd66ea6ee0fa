"""How many calls may wait for a part at once, learnt from those that it answered too late.

A part that is behind, or stands still, must not be sent more: it would work off what nobody waits
for any more while what is wanted waits behind it, so that every answer comes too late. The limit
grows by a little with every answer and shrinks to a share of what is waiting when one comes too
late: additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it. A part that
keeps up is never limited: the limit starts far above what can be waiting.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import Unavailable

MAX_CALLS = 1_000  # that wait for a part at once
MIN_CALLS = 2  # that may always wait: their answers tell that the part is well again
GROW = 0.25  # for each limit's worth of answers; 1 piles up again before the first late one is seen
SHRINK = 0.7  # of what was waiting when an answer came too late
TELLING_S = 0.05  # a shorter deadline that is missed says more of the deadline than of the part
WAIT_SHARE = 0.3  # of the time until its deadline that a call waits for its turn at most
LATE_SHARE = 0.9  # of its deadline that a call given up must have waited: nobody just left


@dataclass(frozen=True)
class Begun:
    """A call that waits for its answer."""

    at_s: float  # on the limit's clock
    allowed_s: float


@dataclass(frozen=True, eq=False)
class _Turn:
    """What a call waits for that is over the limit, on the event loop that it is of."""

    loop: asyncio.AbstractEventLoop
    come: asyncio.Event


class CallLimit:
    """The calls of one kind to one part; for any number of threads and event loops.

    Args:
        part: named in the error.
        clock: seconds that only grow.
    """

    def __init__(self, part: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.running = 0  # also those that nobody waits for any more
        self._part = part
        self._clock = clock
        self._most = float(MAX_CALLS)
        self._shrunk_s = -float("inf")
        self._waiting: deque[_Turn] = deque()
        self._lock = threading.Lock()

    async def begin(self, allowed_s: float) -> Begun:
        """Count a call that is about to be sent; `end` must follow, whatever comes of it.

        Args:
            allowed_s: until its deadline.

        Raises:
            Unavailable: as many as the part keeps up with are waiting, and went on to.
        """
        begun = self.begin_now(allowed_s)
        if begun is not None:
            return begun
        asked_s = self._clock()
        if not await self._turn_came(WAIT_SHARE * allowed_s):
            raise Unavailable(
                self._part,
                f"{self._part} is behind: {self.running} calls wait for it already; try again "
                "later",
            )
        now_s = self._clock()
        return Begun(now_s, allowed_s - (now_s - asked_s))

    def begin_now(self, allowed_s: float) -> Begun | None:
        """Count a call as `begin` does; None where it would have to wait."""
        with self._lock:
            if self._waiting or self.running >= self._most:
                return None
            self.running += 1
            return Begun(self._clock(), allowed_s)

    def end(self) -> None:
        """Count off a call that runs no longer at the part."""
        with self._lock:
            self.running -= 1
            self._admit()

    def answered(self) -> None:
        """Note an answer that came in time."""
        with self._lock:
            self._most = min(MAX_CALLS, self._most + GROW / self._most)
            self._admit()

    def given_up(self, begun: Begun) -> None:
        """Note that nobody waits for a call any more; one that came too late shrinks the limit.

        Those that had begun before the limit last shrank do not shrink it again: they waited in
        the same queue.
        """
        with self._lock:
            now_s = self._clock()
            waited_s = now_s - begun.at_s
            late = waited_s >= max(TELLING_S, LATE_SHARE * begun.allowed_s)
            if late and begun.at_s > self._shrunk_s:
                self._most = max(MIN_CALLS, SHRINK * min(self._most, self.running))
                self._shrunk_s = now_s

    async def _turn_came(self, seconds: float) -> bool:
        """Wait for a turn, which counts as running from then on."""
        turn = _Turn(asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._waiting.append(turn)
            self._admit()
        try:
            async with asyncio.timeout(seconds):
                await turn.come.wait()
            return True
        except TimeoutError:
            return not self._left(turn)
        except asyncio.CancelledError:
            if not self._left(turn):
                self.end()
            raise

    def _admit(self) -> None:
        """Give those that wait their turn, as many as there is room for; the lock is held."""
        while self._waiting and self.running < self._most:
            turn = self._waiting.popleft()
            try:
                turn.loop.call_soon_threadsafe(turn.come.set)
            except RuntimeError:  # its loop is closed: nobody waits there any more
                continue
            self.running += 1

    def _left(self, turn: _Turn) -> bool:
        """Leave the queue; False where the turn has come in this moment."""
        with self._lock:
            if turn not in self._waiting:
                return False
            self._waiting.remove(turn)
            return True
