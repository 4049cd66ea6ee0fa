"""Waits until a Milvus server is done with what was written to it.

Right after a write its rows are searched one by one; only when a segment is sealed, and its index
is built and loaded, are searches as quick as they will be. The embedded engine has no such stage.
"""

import asyncio
import time
from collections.abc import Sequence

from ensembles.bundle import Bundle
from gateway.errors import Unavailable, Unsupported
from gateway.index.calls import Calls
from gateway.index.schema import (
    collection_name,
    describe_index,
    flush,
    is_settled,
    loaded_segments,
)
from gateway.schemas import LegName

POLL_S = 1.0  # Milvus has no event to wait for


async def settle(uri: str, bundle: Bundle, legs: Sequence[LegName], *, timeout_s: float) -> None:
    """Return when all rows of these legs are in sealed, indexed, loaded segments.

    Args:
        uri: of the Milvus.
        bundle: whose collections.
        legs: those that have rows.
        timeout_s: for all of it.

    Raises:
        Unavailable: it does not come to rest in time, or does not answer.
    """
    calls, until = Calls(uri), time.monotonic() + timeout_s
    try:
        for leg in legs:
            await calls.send("Flush", flush(collection_name(bundle, leg)), until)
            await _indexed(calls, bundle, leg, until)
    except Unsupported:  # the embedded engine has no segments
        return
    finally:
        calls.close()


async def _indexed(calls: Calls, bundle: Bundle, leg: LegName, until: float) -> None:
    segments = loaded_segments(collection_name(bundle, leg))
    while True:
        described = await calls.send("DescribeIndex", describe_index(bundle, leg), until)
        loaded = await calls.send("GetQuerySegmentInfo", segments, until)
        if is_settled(described, loaded):
            return
        if time.monotonic() > until:
            raise Unavailable("milvus", f"the leg {leg} was not indexed in time")
        await asyncio.sleep(POLL_S)
