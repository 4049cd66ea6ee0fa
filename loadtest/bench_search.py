"""`GET /v1/search` in a closed loop: one client, then several, over keep-alive connections.

Every query is asked once, so that the gateway's cache of query embeddings helps none of them.
"""

import http.client
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from urllib.parse import quote, urlsplit

import msgspec

from gateway.schemas import SearchReply, StageTimes
from loadtest.stats import Latencies, latencies

TIMEOUT_S = 10.0
WARM_UP = 30


class SearchReport(msgspec.Struct, frozen=True):
    """The times of one run."""

    clients: int
    latency: Latencies  # as the client saw it
    per_s: float
    failed: int  # replies other than 200
    degraded: int  # replies that left something out
    stages: dict[str, Latencies]  # from the replies: total, embed, legs, catalogue, gateway


class _Run:
    """What the clients of one run share."""

    def __init__(self, url: str, queries: Sequence[str], progress: Callable[[], None]) -> None:
        self._address = urlsplit(url)
        self._queries = iter(queries)
        self._lock = Lock()
        self._progress = progress
        self.times_s: list[float] = []
        self.stages: list[StageTimes] = []
        self.failed = 0
        self.degraded = 0

    def client(self) -> None:
        """Ask until no query is left."""
        connection = http.client.HTTPConnection(
            str(self._address.hostname), self._address.port, timeout=TIMEOUT_S
        )
        while (query := self._next()) is not None:
            start = time.perf_counter()
            connection.request("GET", f"/v1/search?q={quote(query)}")
            reply = connection.getresponse()
            body = reply.read()
            self._record(time.perf_counter() - start, reply.status, body)
        connection.close()

    def _next(self) -> str | None:
        with self._lock:
            return next(self._queries, None)

    def _record(self, elapsed_s: float, status: int, body: bytes) -> None:
        answer = msgspec.json.decode(body, type=SearchReply) if status == 200 else None
        with self._lock:
            self.times_s.append(elapsed_s)
            self.failed += answer is None
            if answer is not None:
                self.degraded += bool(answer.degraded)
                self.stages.append(answer.stage_ms)
            self._progress()


def bench_search(
    url: str, queries: Sequence[str], clients: int, progress: Callable[[], None]
) -> SearchReport:
    """Ask each query once.

    Args:
        url: the gateway's.
        queries: different from each other; the first WARM_UP are asked before the clock starts.
        clients: how many ask at the same time.
        progress: called after each reply.
    """
    warm_up = _Run(url, queries[:WARM_UP], progress)
    warm_up.client()
    run = _Run(url, queries[WARM_UP:], progress)
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        for client in [pool.submit(run.client) for _ in range(clients)]:
            client.result()
    elapsed_s = time.perf_counter() - start
    names = StageTimes.__struct_fields__
    return SearchReport(
        clients=clients,
        latency=latencies(run.times_s),
        per_s=len(run.times_s) / elapsed_s,
        failed=run.failed,
        degraded=run.degraded,
        stages={name: latencies([getattr(s, name) / 1_000 for s in run.stages]) for name in names},
    )
