"""The next step's batch, made while this one is computed."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

Batch = TypeVar("Batch")


class Ahead(Generic[Batch]):
    """Batches by their step, one ahead of what was asked for last.

    Args:
        make: a step to its batch; depends on nothing but the step.
        steps: how many there are, so that none is made in vain.
    """

    def __init__(self, make: Callable[[int], Batch], steps: int) -> None:
        self._make, self._steps = make, steps
        self._pool = ThreadPoolExecutor(1)
        self._next: tuple[int, Future[Batch]] | None = None

    def __call__(self, step: int) -> Batch:
        """Return a step's batch."""
        waiting = self._next
        made = waiting[1] if waiting and waiting[0] == step else self._submit(step)
        batch = made.result()
        self._next = (step + 1, self._submit(step + 1)) if step + 1 < self._steps else None
        return batch

    def _submit(self, step: int) -> "Future[Batch]":
        return self._pool.submit(self._make, step)
