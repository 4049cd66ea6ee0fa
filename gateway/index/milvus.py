"""The only door to Milvus, for the gateway and the worker.

A write is acknowledged when it can be seen: one `Strong` read follows it, which waits for that. So
searches read at `Bounded` consistency, which waits for nothing, and still find every such write.
Seen with Milvus 2.3.5: without that read 30 of 30 searches right after a write missed it, with it
none; it makes a write 0.4 s longer there, and no longer on the embedded engine.
"""

import asyncio
import time
from collections.abc import Sequence

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from gateway.errors import DeadlineExceeded, Unavailable, Unsupported
from gateway.index import schema, wire
from gateway.index.calls import Calls, CollectionMissing
from gateway.index.inventory import Inventory, batches, write_seen
from gateway.index.rows import LEGS, Candidate, IndexRow, VideoFields
from gateway.index.schema import Engine, Message
from gateway.index.stored import Stored
from gateway.schemas import LegName
from gateway.search.filters import equals, one_of

MAX_ROWS_PER_CALL = 256  # rows in one write; 256 rows of 1,024 dimensions are 1 MiB
LOADING_POLL_S = 0.05  # between questions whether a collection is loaded
PERCENT = 100


class Milvus:
    """A connection to one Milvus, made when it is first used; for any number of tasks.

    Every method raises `DeadlineExceeded` when `timeout_s` is over, `Unavailable` when Milvus
    does not answer or lacks the collection, `InvalidRequest` when it refuses a parameter.

    Args:
        uri: as `Calls` takes it, e.g. `http://127.0.0.1:19530`.
        ef: how many neighbours HNSW weighs up in a search, where the engine has HNSW.

    Raises:
        ConfigurationError: the URI is none.
    """

    def __init__(self, uri: str, *, ef: int = 200) -> None:
        self._calls = Calls(uri)
        self.inventory = Inventory(self._calls)
        self.stored = Stored(self._calls)
        self._ef = ef
        self._engine: Engine | None = None
        self._looked_at: set[str] = set()  # collections whose index has the metric of now

    async def ensure_collections(self, bundle: Bundle, *, timeout_s: float) -> None:
        """Make the collections of a bundle where they are missing; harmless to repeat.

        Raises:
            ConfigurationError: a collection is there with other fields.
        """
        until = time.monotonic() + timeout_s
        engine = await self._known_engine(until)
        await asyncio.gather(*(self._ensure(bundle, leg, engine, until) for leg in _legs(engine)))

    async def _ensure(self, bundle: Bundle, leg: LegName, engine: Engine, until: float) -> None:
        name = schema.collection_name(bundle, leg)
        try:
            described = schema.describe_collection(name)
            reply = await self._calls.send("DescribeCollection", described, until)
            schema.check_schema(bundle, leg, reply.schema)
            if name not in self._looked_at:
                await self._drop_other_index(bundle, leg, until)
                self._looked_at.add(name)
        except CollectionMissing:
            create = schema.create_collection(bundle, leg)
            await self._calls.send("CreateCollection", create, until)
        await self._calls.send("CreateIndex", schema.create_index(bundle, leg, engine), until)
        await self._calls.send("LoadCollection", schema.load_collection(name), until)
        progress = schema.loading_progress(name)
        # Milvus has no event to wait for: it is asked.
        while (await self._calls.send("GetLoadingProgress", progress, until)).progress < PERCENT:  # noqa: ASYNC110
            await asyncio.sleep(LOADING_POLL_S)

    async def _drop_other_index(self, bundle: Bundle, leg: LegName, until: float) -> None:
        """Drop an index with another metric; the rows stay, and it is made again."""
        try:
            described = await self._calls.send(
                "DescribeIndex", schema.describe_index(bundle, leg), until
            )
        except Unavailable:  # there is none: what is wrong otherwise, the next call says
            return
        if schema.has_other_metric(described):
            release = schema.release_collection(schema.collection_name(bundle, leg))
            await self._calls.send("ReleaseCollection", release, until)
            await self._calls.send("DropIndex", schema.drop_index(bundle, leg), until)

    async def write(self, bundle: Bundle, rows: Sequence[IndexRow], *, timeout_s: float) -> None:
        """Write rows into each leg that they have; returns when the next search sees them.

        Writing a row again replaces it.

        Raises:
            InvalidRequest: a vector is not a unit vector of its leg; no row was written.
        """
        until = time.monotonic() + timeout_s
        engine = await self._known_engine(until)
        legs = {leg: [row for row in rows if has_row(row, leg)] for leg in _legs(engine)}
        upserts = [
            wire.upsert(bundle, leg, batch)
            for leg, kept in legs.items()
            for batch in batches(kept, MAX_ROWS_PER_CALL)
        ]
        await asyncio.gather(*(self._write("Upsert", upsert, until) for upsert in upserts))

    async def delete_video(self, bundle: Bundle, video_id: str, *, timeout_s: float) -> None:
        """Remove a video's segments from every leg; returns when no search sees them any more."""
        until = time.monotonic() + timeout_s
        expression = equals("video_id", video_id)
        engine = await self._known_engine(until)
        deletes = [
            wire.delete(schema.collection_name(bundle, leg), expression) for leg in _legs(engine)
        ]
        await asyncio.gather(*(self._write("Delete", delete, until) for delete in deletes))

    async def update_video(
        self, bundle: Bundle, video_id: str, fields: VideoFields, *, timeout_s: float
    ) -> None:
        """Set what a PATCH changes in all rows of a video; vectors and transcripts stay."""
        until = time.monotonic() + timeout_s
        engine = await self._known_engine(until)
        await asyncio.gather(
            *(self._update(bundle, leg, video_id, fields, until) for leg in _legs(engine))
        )

    async def _update(
        self, bundle: Bundle, leg: LegName, video_id: str, fields: VideoFields, until: float
    ) -> None:
        name = schema.collection_name(bundle, leg)
        of_video = wire.query(name, equals("video_id", video_id), ["segment_id"])
        segment_ids = wire.read_strings(await self._calls.send("Query", of_video, until))
        for ids in batches(segment_ids, MAX_ROWS_PER_CALL):
            stored = wire.query(name, one_of("segment_id", ids), schema.stored_fields(bundle, leg))
            rows = await self._calls.send("Query", stored, until)
            await self._write("Upsert", wire.upsert_patched(name, rows, fields), until)

    async def _write(self, method: str, request: Message, until: float) -> None:
        """Send a write, then wait until it can be seen."""
        await write_seen(self._calls, method, request, until)

    async def search_vector(
        self,
        bundle: Bundle,
        leg: LegName,
        vector: FloatArray,
        *,
        k: int,
        expression: str,
        timeout_s: float,
    ) -> tuple[Candidate, ...]:
        """Return the `k` nearest segments by cosine, best first.

        Args:
            bundle: whose index to search.
            leg: a vector leg.
            vector: the query, unit length, float32, as wide as the leg.
            k: candidates at most.
            expression: what the segments must be; see `gateway.filters`. "": anything.
            timeout_s: how long it may take.

        Raises:
            InvalidRequest: the vector is not one of this leg's.
        """
        until = time.monotonic() + timeout_s
        checked = wire.checked_vector(bundle, leg, vector)
        name = schema.collection_name(bundle, leg)
        request = wire.search_vector(name, checked, k, expression, self._ef)
        return wire.candidates(await self._calls.send("Search", request, until))

    async def search_keyword(
        self, bundle: Bundle, text: str, *, k: int, expression: str, timeout_s: float
    ) -> tuple[Candidate, ...]:
        """Return the `k` best segments for the words of a text by BM25, best first.

        Raises:
            Unsupported: this Milvus has no BM25.
        """
        until = time.monotonic() + timeout_s
        engine = await self._known_engine(until)
        if not engine.bm25:
            raise Unsupported("milvus", f"{engine.name} has no BM25")
        name = schema.collection_name(bundle, "keyword")
        request = wire.search_keyword(name, text, k, expression)
        try:
            return wire.candidates(await self._calls.send("Search", request, until))
        except Unavailable as error:
            if engine is not schema.EMBEDDED or isinstance(error, DeadlineExceeded):
                raise
            # The embedded engine divides by the mean length of its texts: of none, that is NaN.
            left_s = until - time.monotonic()
            if await self.count(bundle, "keyword", timeout_s=left_s) == 0:
                return ()
            raise

    async def count(
        self, bundle: Bundle, leg: LegName, video_id: str | None = None, *, timeout_s: float
    ) -> int:
        """Return how many segments a leg holds, of one video or of all."""
        until = time.monotonic() + timeout_s
        expression = "" if video_id is None else equals("video_id", video_id)
        request = wire.query(schema.collection_name(bundle, leg), expression, ["count(*)"])
        return wire.read_count(await self._calls.send("Query", request, until))

    async def legs(self, *, timeout_s: float) -> tuple[LegName, ...]:
        """Return the legs that this engine can hold."""
        return _legs(await self._known_engine(time.monotonic() + timeout_s))

    async def ready(self, *, timeout_s: float) -> bool:
        """Return whether Milvus answers and calls itself healthy."""
        until = time.monotonic() + timeout_s
        try:
            if (await self._known_engine(until)) is schema.EMBEDDED:
                return bool(await self._calls.send("Connect", schema.connect(), until))
            return bool(
                (await self._calls.send("CheckHealth", schema.check_health(), until)).isHealthy
            )
        except Unavailable:
            return False

    async def _known_engine(self, until: float) -> Engine:
        """Return what the engine can do; asked once a connection."""
        if self._engine is None:
            try:
                reply = await self._calls.send("GetVersion", schema.get_version(), until)
                self._engine = schema.engine(reply.version)
            except Unsupported:
                await self._calls.send("Connect", schema.connect(), until)
                self._engine = schema.EMBEDDED
        return self._engine

    async def close(self) -> None:
        """Close the connection; calls that run fail with `Unavailable`."""
        self._calls.close()


def _legs(engine: Engine) -> tuple[LegName, ...]:
    return tuple(leg for leg in LEGS if leg != "keyword" or engine.bm25)


def has_row(row: IndexRow, leg: LegName) -> bool:
    """Say whether a segment has a row in a leg."""
    return bool(row.keywords) if leg == "keyword" else row.vector(leg) is not None
