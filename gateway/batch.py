"""Embedding by the batch: many texts or images straight to Triton's ensembles.

    items → windows → batches of one padded size → Triton, some in flight → rows, in order

Everything is bounded: the items read ahead, the calls in flight, the bytes of a call. An answer is
the same however often it is asked for, so calls that failed for want of a server are repeated; a
batch that is refused is halved until the items that cannot be used stand alone.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from gateway.batch_encoders import Encoder
from gateway.batch_plan import Item, plan_batches
from gateway.errors import (
    InvalidRequest,
    MediaRefused,
    ModelFailed,
    Overloaded,
    PixserveError,
    TooLarge,
    Unavailable,
)

IN_FLIGHT = 4  # calls at once; Triton queues what is more
TEXT_BATCH = 32  # texts a call
WINDOW_ITEMS = 2_048  # among which items of like size are looked for
WINDOWS = 2  # read ahead: this one drains while the next one fills
MAX_CALL_BYTES = 32 * 1024 * 1024  # of the images of one call, padded to the longest
TRIES = 8  # of one call: over 16 to 24 s
BACK_OFF_S = 0.2  # before the second try; doubles, with up to half of it at random
BACK_OFF_MAX_S = 5.0

REFUSED = (InvalidRequest, MediaRefused, ModelFailed, TooLarge)
RETRIED = (Unavailable, Overloaded)  # all kinds of Unavailable but ModelFailed


@dataclass(frozen=True, slots=True)
class Row:
    """An item's answer: its unit vector, or NaN and why."""

    id: int | str
    embedding: FloatArray  # (width,)
    error: str = ""


class Limits(msgspec.Struct, frozen=True):
    """What bounds a job's memory and what it asks of the server."""

    in_flight: int = IN_FLIGHT
    batch: int = TEXT_BATCH
    call_bytes: int = MAX_CALL_BYTES
    window: int = WINDOW_ITEMS
    tries: int = TRIES
    back_off_s: float = BACK_OFF_S


Write = Callable[[Sequence[Row]], None]


async def embed_all(
    encoder: Encoder, items: Iterable[Item], write: Write, limits: Limits | None = None
) -> None:
    """Embed items and write their rows in the items' order.

    Args:
        encoder: from `text_encoder` or `image_encoder`.
        items: read as they are needed, in a thread.
        write: called with the rows of one window after the other. A row whose item cannot be
            used has NaN and an error; every item has exactly one row.
        limits: of memory and of what is asked of the server.

    Raises:
        Unavailable: the server stayed away for all of `limits.tries`.
        Overloaded: its queue stayed full.
    """
    limits = limits or Limits()
    places = asyncio.Semaphore(limits.in_flight)
    pending: deque[asyncio.Task[list[Row]]] = deque()
    try:
        async with asyncio.TaskGroup() as group:
            async for window in _windows(items, limits.window):
                if len(pending) == WINDOWS:
                    write(await pending.popleft())
                job = _embed_window(encoder, window, places, limits)
                pending.append(group.create_task(job))
            while pending:
                write(await pending.popleft())
    except BaseExceptionGroup as errors:
        raise _first(errors) from errors


async def _windows(items: Iterable[Item], size: int) -> AsyncIterator[list[Item]]:
    source = iter(items)
    while window := await asyncio.to_thread(lambda: list(islice(source, size))):
        yield window


async def _embed_window(
    encoder: Encoder, window: Sequence[Item], places: asyncio.Semaphore, limits: Limits
) -> list[Row]:
    """Return one row an item, in the window's order."""
    nothing = np.full(encoder.width, np.nan, dtype=np.float32)
    rows = {place: Row(item.id, nothing, item.error) for place, item in enumerate(window)}

    async def answer(batch: Sequence[int]) -> None:
        items = [window[place] for place in batch]
        try:
            vectors = await _send(encoder, items, places, limits)
        except REFUSED as refusal:
            if len(batch) == 1:
                rows[batch[0]] = Row(items[0].id, nothing, refusal.message)
                return
            middle = len(batch) // 2
            await answer(batch[:middle])
            await answer(batch[middle:])
            return
        for place, item, vector in zip(batch, items, vectors, strict=True):
            rows[place] = Row(item.id, vector)

    async with asyncio.TaskGroup() as group:
        for batch in plan_batches(window, min(limits.batch, encoder.max_batch), limits.call_bytes):
            group.create_task(answer(batch))
    return list(rows.values())


async def _send(
    encoder: Encoder, items: Sequence[Item], places: asyncio.Semaphore, limits: Limits
) -> FloatArray:
    """Call once a place is free; wait and call again while the server cannot answer."""
    async with places:
        for wait_s in back_off(limits.tries, limits.back_off_s):
            try:
                return await encoder.send(items)
            except REFUSED:
                raise
            except RETRIED:
                await asyncio.sleep(wait_s)
        return await encoder.send(items)


def back_off(tries: int, first_s: float) -> Iterator[float]:
    """Return the waits between `tries` tries: doubling, with up to half of each at random."""
    for number in range(tries - 1):
        wait_s = min(BACK_OFF_MAX_S, first_s * 2**number)
        yield wait_s * random.uniform(1, 1.5)  # noqa: S311 (spreads retries, hides nothing)


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the error that ended a group of tasks; ours before any other."""
    leaves = list(_leaves(errors))
    return next((error for error in leaves if isinstance(error, PixserveError)), leaves[0])


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
