"""The vectors that the index holds, read back: what "more like this" searches with."""

import time
from collections.abc import Collection

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from gateway.index import schema, wire
from gateway.index.calls import Calls, CollectionMissing
from gateway.schemas import LegName
from gateway.search.filters import one_of


class Stored:
    """The vectors of one Milvus; raises what `Milvus` raises."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    async def vectors(
        self, bundle: Bundle, leg: LegName, segment_ids: Collection[str], *, timeout_s: float
    ) -> dict[str, FloatArray]:
        """Return the vectors of a leg by segment id; segments without one are left out.

        Args:
            bundle: whose index.
            leg: a vector leg.
            segment_ids: at least one.
            timeout_s: how long it may take.
        """
        until = time.monotonic() + timeout_s
        name = schema.collection_name(bundle, leg)
        wanted = wire.query(name, one_of("segment_id", segment_ids), ["segment_id", "embedding"])
        try:
            return wire.read_vectors(await self._calls.send("Query", wanted, until))
        except CollectionMissing:
            return {}
