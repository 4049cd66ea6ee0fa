"""What lies in Milvus, whatever bundle it belongs to: listed, counted, and removed for good."""

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from typing import TypeVar

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from gateway.index import schema, wire
from gateway.index.calls import Calls, CollectionMissing
from gateway.index.rows import LEGS
from gateway.index.schema import Message
from gateway.schemas import LegName
from gateway.search.filters import equals, one_of

PAGE_ROWS = 1_000  # ids read at once
MAX_IDS_PER_CALL = 256  # of segments in one filter

T = TypeVar("T")


class Inventory:
    """All collections of one Milvus that are ours.

    Every method raises what `Milvus` raises; `timeout_s` is for the whole call.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def collections(self, *, timeout_s: float) -> tuple[str, ...]:
        """Return the names of our collections, of every bundle."""
        return await self._ours(time.monotonic() + timeout_s)

    async def erase_video(self, video_id: str, *, timeout_s: float) -> dict[str, int]:
        """Remove a video's rows from the collections of every bundle, then count them again.

        Returns:
            What is left, rows by collection; empty where nothing is.
        """
        until = time.monotonic() + timeout_s
        names = await self._ours(until)
        counts = await asyncio.gather(*(self._erase(name, video_id, until) for name in names))
        return {name: count for name, count in zip(names, counts, strict=True) if count}

    async def segment_ids(
        self, bundle: Bundle, leg: LegName, video_id: str, *, timeout_s: float
    ) -> set[str]:
        """Return the segments of a video that a leg has; none where the leg was never made."""
        found = await self.ids_of(bundle, leg, [video_id], timeout_s=timeout_s)
        return found.get(video_id, set())

    async def ids_of(
        self, bundle: Bundle, leg: LegName, video_ids: Collection[str], *, timeout_s: float
    ) -> dict[str, set[str]]:
        """Return the segments that a leg has of some videos, by video; at least one is named."""
        until = time.monotonic() + timeout_s
        name = schema.collection_name(bundle, leg)
        wanted = wire.query(name, one_of("video_id", video_ids), ["segment_id", "video_id"])
        found: dict[str, set[str]] = {}
        try:
            rows = wire.read_ids(await self._calls.send("Query", wanted, until))
        except CollectionMissing:
            return found
        for segment_id, video_id in rows:
            found.setdefault(video_id, set()).add(segment_id)
        return found

    async def delete_segments(
        self, bundle: Bundle, leg: LegName, segment_ids: Collection[str], *, timeout_s: float
    ) -> None:
        """Remove segments from a leg; returns when no search sees them any more."""
        until = time.monotonic() + timeout_s
        name = schema.collection_name(bundle, leg)
        for ids in batches(sorted(segment_ids), MAX_IDS_PER_CALL):
            gone = wire.delete(name, one_of("segment_id", ids))
            await write_seen(self._calls, "Delete", gone, until)

    async def rows(
        self, bundle: Bundle, leg: LegName, *, timeout_s: float
    ) -> AsyncIterator[list[tuple[str, str]]]:
        """Yield all rows of a leg, a page at a time: ids of segments and of their videos.

        Args:
            bundle: whose index.
            leg: which of it.
            timeout_s: for one page.
        """
        name, after = schema.collection_name(bundle, leg), ""
        while True:
            request = wire.page(name, after, PAGE_ROWS)
            reply = await self._calls.send("Query", request, time.monotonic() + timeout_s)
            found = wire.read_ids(reply)
            if not found:
                return
            yield found
            after = max(segment_id for segment_id, _ in found)

    async def vectors(
        self, bundle: Bundle, leg: LegName, *, timeout_s: float
    ) -> AsyncIterator[tuple[Sequence[str], FloatArray]]:
        """Yield all vectors of a leg, a page at a time: ids, and embeddings (n, width).

        Args:
            bundle: whose index.
            leg: a vector leg.
            timeout_s: for one page.
        """
        name, after = schema.collection_name(bundle, leg), ""
        while True:
            request = wire.page(name, after, PAGE_ROWS, "embedding")
            reply = await self._calls.send("Query", request, time.monotonic() + timeout_s)
            found = wire.read_vectors(reply)
            if not found:
                return
            yield tuple(found), np.stack(list(found.values()))
            after = max(found)

    async def drop(self, bundle: Bundle, *, timeout_s: float) -> None:
        """Remove a bundle's collections; `Milvus.ensure_collections` makes new ones."""
        until = time.monotonic() + timeout_s
        there = await self._ours(until)
        for leg in LEGS:
            name = schema.collection_name(bundle, leg)
            if name in there:
                await self._calls.send("DropCollection", schema.drop_collection(name), until)

    async def _ours(self, until: float) -> tuple[str, ...]:
        reply = await self._calls.send("ShowCollections", schema.show_collections(), until)
        return tuple(sorted(filter(schema.is_ours, reply.collection_names)))

    async def _erase(self, name: str, video_id: str, until: float) -> int:
        """Remove a video from a collection, loaded or not, and return how many rows are left."""
        of_video = equals("video_id", video_id)
        try:
            await self._calls.send("LoadCollection", schema.load_collection(name), until)
            await write_seen(self._calls, "Delete", wire.delete(name, of_video), until)
            left = wire.query(name, of_video, ["count(*)"], after_writes=True)
            return wire.read_count(await self._calls.send("Query", left, until))
        except CollectionMissing:  # dropped since it was listed
            return 0


async def write_seen(calls: Calls, method: str, request: Message, until: float) -> None:
    """Send a write to a collection, then wait until it can be seen."""
    await calls.send(method, request, until)
    seen = wire.query(request.collection_name, "", ["count(*)"], after_writes=True)
    await calls.send("Query", seen, until)


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Cut a sequence into pieces of at most `size`."""
    return (items[start : start + size] for start in range(0, len(items), size))
