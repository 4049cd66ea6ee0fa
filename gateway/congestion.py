"""How many calls may wait for a part at once, learnt from those that it answered too late.

A part that is behind, or stands still, must not be sent more: it would work off what nobody waits
for any more while what is wanted waits behind it, so that every answer comes too late. The limit
grows by a little with every answer and shrinks to a share of what is waiting when one comes too
late: additive increase, multiplicative decrease (Chiu and Jain 1989), as TCP does it. A part that
keeps up is never limited: the limit starts far above what can be waiting.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from gateway.errors import Unavailable

MAX_CALLS = 1_000  # that wait for a part at once
MIN_CALLS = 2  # that may always wait: their answers tell that the part is well again
GROW = 0.25  # for each limit's worth of answers; 1 piles up again before the first late one is seen
SHRINK = 0.7  # of what was waiting when an answer came too late
TELLING_S = 0.05  # a shorter deadline that is missed says more of the deadline than of the part
LATE_SHARE = 0.9  # of its deadline that a call given up must have waited: nobody just left


@dataclass(frozen=True)
class Begun:
    """A call that waits for its answer."""

    at_s: float  # on the limit's clock
    allowed_s: float


class CallLimit:
    """The calls of one kind to one part; for any number of threads.

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
        self._lock = threading.Lock()

    def begin(self, allowed_s: float) -> Begun:
        """Count a call that is about to be sent; `end` must follow, whatever comes of it.

        Args:
            allowed_s: until its deadline.

        Raises:
            Unavailable: as many as the part keeps up with are waiting.
        """
        with self._lock:
            if self.running >= self._most:
                raise Unavailable(
                    self._part,
                    f"{self._part} is behind: {self.running} calls wait for it already; try again "
                    "later",
                )
            self.running += 1
            return Begun(self._clock(), allowed_s)

    def end(self) -> None:
        """Count off a call that runs no longer at the part."""
        with self._lock:
            self.running -= 1

    def answered(self) -> None:
        """Note an answer that came in time."""
        with self._lock:
            self._most = min(MAX_CALLS, self._most + GROW / self._most)

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
