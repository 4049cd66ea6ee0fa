"""What the gateway counts and measures, in Prometheus' text format."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.catalogue.claims import Kind
from gateway.schemas import JobState, SearchReply
from gateway.search.cache import Cache

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
REQUEST_BUCKETS_S = (0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 10, 60)
STAGE_BUCKETS_S = (0.001, 0.002, 0.003, 0.005, 0.01, 0.02, 0.035, 0.05, 0.075, 0.1, 0.25, 1)


class Metrics:
    """The metrics of one gateway, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Histogram(
            "pixserve_request_seconds",
            "Time to answer a request, by route template and status.",
            ("method", "route", "status"),
            buckets=REQUEST_BUCKETS_S,
            registry=self._registry,
        )
        self._stages = Histogram(
            "pixserve_search_stage_seconds",
            "Time that each stage of a search took.",
            ("stage",),
            buckets=STAGE_BUCKETS_S,
            registry=self._registry,
        )
        self._degraded = Counter(
            "pixserve_search_degraded",
            "Searches that left something out, by what it was.",
            ("part",),
            registry=self._registry,
        )
        self._cache = Gauge(
            "pixserve_embedding_cache_lookups",
            "Look-ups in the cache of query embeddings since the start.",
            ("outcome",),
            registry=self._registry,
        )
        self._jobs = Gauge(
            "pixserve_jobs", "Jobs by kind and state.", ("kind", "state"), registry=self._registry
        )
        self._depth = Gauge(
            "pixserve_job_queue_depth", "Jobs that wait for a worker.", registry=self._registry
        )

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def observe_search(self, reply: SearchReply) -> None:
        """Count one search: its stages, and what it left out."""
        times = reply.stage_ms
        for stage in times.__struct_fields__:
            self._stages.labels(stage).observe(getattr(times, stage) / 1_000)
        for reason in reply.degraded:
            self._degraded.labels(reason.partition(":")[0]).inc()

    def render(self, jobs: Mapping[tuple[Kind, JobState], int], embeddings: Cache[Any]) -> bytes:
        """Return everything as text.

        Args:
            jobs: how many there are, by kind and state.
            embeddings: the cache, which counts for itself.
        """
        self._jobs.clear()
        for (kind, state), count in jobs.items():
            self._jobs.labels(kind, state).set(count)
        self._depth.set(sum(n for (_, state), n in jobs.items() if state == "queued"))
        self._cache.labels("hit").set(embeddings.hits)
        self._cache.labels("miss").set(embeddings.misses)
        self._cache.labels("joined").set(embeddings.in_flight.joined)
        return generate_latest(self._registry)
