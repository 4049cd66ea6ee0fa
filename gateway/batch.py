"""Embedding by the batch: many texts or images straight to Triton's ensembles.

    items → windows → batches of one padded size → Triton, some in flight → rows, in order

Everything is bounded: the items read ahead, the calls in flight, the bytes of a call. An answer is
the same however often it is asked for, so calls that failed for want of a server are repeated; a
batch that is refused is halved until the items that cannot be used stand alone.
"""

import asyncio
import random
import re
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.contracts import (
    MAX_IMAGE_BATCH,
    MAX_IMAGE_BYTES,
    MAX_TEXT_BATCH,
    TOKEN_BUCKETS,
    bucket,
)
from gateway.errors import (
    InvalidRequest,
    MediaRefused,
    Overloaded,
    PixserveError,
    TooLarge,
    Unavailable,
)
from gateway.triton import Role, Triton, served_bundle

TextEncoder = Literal["sentence", "clip"]

IN_FLIGHT = 4  # calls at once; Triton queues what is more
TEXT_BATCH = 32  # texts a call
WINDOW_ITEMS = 2_048  # among which items of like size are looked for
WINDOWS = 2  # read ahead: this one drains while the next one fills
MAX_CALL_BYTES = 32 * 1024 * 1024  # of the images of one call, padded to the longest
CALL_TIMEOUT_S = 60.0
TRIES = 8  # of one call: over 16 to 24 s
BACK_OFF_S = 0.2  # before the second try; doubles, with up to half of it at random
BACK_OFF_MAX_S = 5.0
LETTERS_A_TOKEN = 6  # longer words are several tokens

RETRIED = (Unavailable, Overloaded)  # DeadlineExceeded is an Unavailable
REFUSED = (InvalidRequest, MediaRefused, TooLarge)
WORD = re.compile(r"\w+|[^\w\s]")


@dataclass(frozen=True, slots=True)
class Item:
    """One text, or the path of one image.

    `padded` is what it is padded to, in tokens or bytes: only equals share a call. An item with an
    `error` is not sent.
    """

    id: int | str
    content: str | Path
    padded: int = 1
    error: str = ""


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


Send = Callable[[Sequence[Item]], Awaitable[FloatArray]]  # n items → (n, width)
Write = Callable[[Sequence[Row]], None]


@dataclass(frozen=True)
class Encoder:
    """One ensemble of one bundle, as a batch job uses it."""

    ensemble: str
    bundle: Bundle
    width: int
    max_batch: int
    send: Send


@asynccontextmanager
async def text_encoder(
    address: str, kind: TextEncoder = "sentence", role: Role = "passage"
) -> AsyncIterator[Encoder]:
    """Connect to the newest bundle's encoder of texts.

    Args:
        address: Triton's gRPC address, HOST:PORT.
        kind: `sentence` to compare texts with texts, `clip` to compare them with images.
        role: what the texts are; only the sentence encoder tells queries and passages apart.

    Raises:
        Unavailable: no server answers there, or it serves no bundle.
    """
    async with _connect(address) as (triton, bundle):

        async def sentence(items: Sequence[Item]) -> FloatArray:
            return await triton.embed_text(_texts(items), role, timeout_s=CALL_TIMEOUT_S)

        async def clip(items: Sequence[Item]) -> FloatArray:
            return await triton.embed_clip_text(_texts(items), timeout_s=CALL_TIMEOUT_S)

        dims = bundle.dims
        if kind == "sentence":
            yield Encoder("embed_text", bundle, dims.sentence, MAX_TEXT_BATCH, sentence)
        else:
            yield Encoder("embed_clip_text", bundle, dims.vision, MAX_TEXT_BATCH, clip)


@asynccontextmanager
async def image_encoder(address: str) -> AsyncIterator[Encoder]:
    """Connect to the newest bundle's encoder of JPEG, PNG and WebP files.

    Raises:
        Unavailable: no server answers there, or it serves no bundle.
    """
    async with _connect(address) as (triton, bundle):

        async def images(items: Sequence[Item]) -> FloatArray:
            encoded = await asyncio.to_thread(lambda: [read_image(item.content) for item in items])
            return await triton.embed_images(encoded, timeout_s=CALL_TIMEOUT_S)

        yield Encoder("embed_images", bundle, bundle.dims.vision, MAX_IMAGE_BATCH, images)


@asynccontextmanager
async def _connect(address: str) -> AsyncIterator[tuple[Triton, Bundle]]:
    bundle = await served_bundle(address, timeout_s=CALL_TIMEOUT_S)
    triton = Triton(address, bundle)
    try:
        yield triton, bundle
    finally:
        await triton.close()


def _texts(items: Sequence[Item]) -> list[str]:
    return [str(item.content) for item in items]


def read_image(path: str | Path) -> bytes:
    """Read an image's bytes; refuses a file that cannot be read, is empty, or is too large."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(MAX_IMAGE_BYTES + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot be read: {error.strerror}") from error
    if not data:
        raise InvalidRequest("the file is empty")
    if len(data) > MAX_IMAGE_BYTES:
        raise TooLarge(f"has over {MAX_IMAGE_BYTES:,} bytes, which is the most")
    return data


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
            except RETRIED:
                await asyncio.sleep(wait_s)
        return await encoder.send(items)


def back_off(tries: int, first_s: float) -> Iterator[float]:
    """Return the waits between `tries` tries: doubling, with up to half of each at random."""
    for number in range(tries - 1):
        wait_s = min(BACK_OFF_MAX_S, first_s * 2**number)
        yield wait_s * random.uniform(1, 1.5)  # noqa: S311 (spreads retries, hides nothing)


def plan_batches(items: Sequence[Item], most: int, call_bytes: int) -> list[list[int]]:
    """Put items of one padded size together: the places of each batch's items.

    Args:
        items: those with an error are left out.
        most: items a batch.
        call_bytes: what a batch's padded items have together, unless it is one item.
    """
    alike: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        if not item.error:
            alike[item.padded].append(place)
    batches = []
    for padded, places in alike.items():
        size = max(1, min(most, call_bytes // padded))
        batches += [places[start : start + size] for start in range(0, len(places), size)]
    return batches


def padded_tokens(text: str) -> int:
    """Estimate the bucket that a text's tokens are padded to; exact counting is the server's."""
    tokens = 2 + sum(1 + (len(word) - 1) // LETTERS_A_TOKEN for word in WORD.findall(text))
    return bucket(tokens, TOKEN_BUCKETS[-1])


def padded_bytes(size: int) -> int:
    """Return the power of two that a file's size is counted as."""
    return 1 << max(0, size - 1).bit_length()


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
