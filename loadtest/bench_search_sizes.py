"""`pixserve bench search --rows`: whole searches over a corpus of a chosen size, and their floor.

Searches run in this process, through the gateway's own function, so that its time is not mixed
with that of HTTP; the vectors of the queries are there at once. The floor is the same index asked
for the same legs with nothing around it. Recall is against brute force over all vectors.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from gateway.doors import Doors
from gateway.index.neighbours import Neighbours, mean_recall
from gateway.schemas import LegName, SearchReply, SearchRequest, StageTimes
from gateway.search.search import search
from loadtest.stats import Latencies, latencies
from loadtest.synthetic import vector_of

K = 100  # candidates of a leg
CALM_S = 60.0
WARM_UP = 30
RECALL_QUERIES = 100
ASKED: tuple[LegName, ...] = ("speech", "visual", "keyword")
SPACES: dict[LegName, str] = {"speech": "sentence", "visual": "clip"}


class LegReport(msgspec.Struct, frozen=True):
    """One leg asked alone, with nothing around it."""

    latency: Latencies
    recall: float | None  # of the K nearest; None: not a leg of vectors


class SizeReport(msgspec.Struct, frozen=True):
    """One engine at one size."""

    rows: int
    clients: int
    legs: dict[str, LegReport]  # each alone
    bare: Latencies  # all legs at once: the floor
    search: Latencies  # the same legs and all that a search does
    stages: dict[str, Latencies]  # of the searches: total, embed, legs, catalogue, gateway
    per_s: float
    cpu_ms_bare: float  # processor time of this process for one query of the floor
    cpu_ms_search: float  # and for one search: a busy machine does not lengthen it
    degraded: dict[str, int]  # what searches left out, and how often


@dataclass(frozen=True)
class _Timed:
    """One measurement."""

    latency: Latencies
    per_s: float
    cpu_ms: float  # processor time of this process for each query


async def bench_size(
    doors: Doors, rows: int, queries: Sequence[str], clients: int, done: Callable[[], None]
) -> SizeReport:
    """Measure one engine at one size.

    Args:
        doors: to a corpus of that size.
        rows: its size.
        queries: different from each other; each is asked once a measurement.
        clients: how many searches at once.
        done: told of each query and measurement.
    """
    there = await doors.milvus.legs(timeout_s=CALM_S)
    legs = [leg for leg in ASKED if leg in there]
    alone = {leg: await _alone(doors, leg, queries, done) for leg in legs}

    async def all_legs(query: str) -> None:
        await asyncio.gather(*(_ask(doors, leg, query) for leg in legs))

    replies: list[SearchReply] = []

    async def whole(query: str) -> None:
        replies.append(await search(SearchRequest(query=query), doors, doors.settings))

    bare = await _timed(all_legs, queries, clients, done)
    searches = await _timed(whole, queries, clients, done)
    measured = replies[WARM_UP:]
    stages = {
        name: latencies([getattr(reply.stage_ms, name) / 1_000 for reply in measured])
        for name in StageTimes.__struct_fields__
    }
    reasons = [reason for reply in measured for reason in reply.degraded]
    return SizeReport(
        rows=rows,
        clients=clients,
        legs={str(leg): report for leg, report in alone.items()},
        bare=bare.latency,
        search=searches.latency,
        stages=stages,
        per_s=searches.per_s,
        cpu_ms_bare=bare.cpu_ms,
        cpu_ms_search=searches.cpu_ms,
        degraded={reason: reasons.count(reason) for reason in sorted(set(reasons))},
    )


async def _ask(doors: Doors, leg: LegName, query: str) -> list[str]:
    """Ask the index for one leg's candidates, as a search does."""
    if leg == "keyword":
        found = await doors.milvus.search_keyword(
            doors.bundle, query, k=K, expression="", timeout_s=CALM_S
        )
    else:
        vector = vector_of(query, SPACES[leg])
        found = await doors.milvus.search_vector(
            doors.bundle, leg, vector, k=K, expression="", timeout_s=CALM_S
        )
    return [candidate.segment_id for candidate in found]


async def _alone(
    doors: Doors, leg: LegName, queries: Sequence[str], done: Callable[[], None]
) -> LegReport:
    async def ask(query: str) -> None:
        await _ask(doors, leg, query)

    asked = await _timed(ask, queries, 1, done)
    recall = None if leg == "keyword" else await _recall(doors, leg, queries[:RECALL_QUERIES])
    return LegReport(asked.latency, recall)


async def _recall(doors: Doors, leg: LegName, queries: Sequence[str]) -> float:
    truth = Neighbours(np.stack([vector_of(query, SPACES[leg]) for query in queries]), K)
    async for ids, vectors in doors.milvus.inventory.vectors(doors.bundle, leg, timeout_s=CALM_S):
        truth.add(ids, vectors)
    found = [await _ask(doors, leg, query) for query in queries]
    return mean_recall(found, truth.ids())


async def _timed(
    ask: Callable[[str], Awaitable[None]],
    queries: Sequence[str],
    clients: int,
    done: Callable[[], None],
) -> _Timed:
    """Ask each query once, those of the warm-up before the clock starts."""
    for query in queries[:WARM_UP]:
        await ask(query)
    waiting, times_s = iter(queries[WARM_UP:]), []

    async def client() -> None:
        for query in waiting:
            start = time.perf_counter()
            await ask(query)
            times_s.append(time.perf_counter() - start)
            done()

    start, cpu_s = time.perf_counter(), time.process_time()
    await asyncio.gather(*(client() for _ in range(clients)))
    elapsed_s, cpu_s = time.perf_counter() - start, time.process_time() - cpu_s
    count = len(times_s)
    return _Timed(latencies(times_s), count / elapsed_s, 1_000 * cpu_s / count)
