"""What is sampled beside a run: processor, memory and descriptors of every process, Triton's and
the gateway's counters. Once a second, in a thread.
"""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

import httpx
import msgspec
import psutil  # type: ignore[import-untyped]  # it comes without type information
from prometheus_client.parser import text_string_to_metric_families

from gateway.errors import NotFound
from loadtest.harness.place import Place

EVERY_S = 1.0
SCRAPE_EVERY = 5  # samples between two readings of the metrics
SCRAPE_S = 2.0
PARTS = ("triton", "milvus", "worker", "gateway")
SETTLE_S = 180.0  # growth is counted from here on
EDGE_S = 30.0  # that are averaged at the start and at the end of the growth

TRITON_COUNTERS = {
    "requests": "nv_inference_request_success",
    "failures": "nv_inference_request_failure",
    "rows": "nv_inference_count",
    "runs": "nv_inference_exec_count",
    "queue_us": "nv_inference_queue_duration_us",
    "compute_us": "nv_inference_compute_infer_duration_us",
}


class ProcessSeries(msgspec.Struct, frozen=True, kw_only=True):
    """One part's processes together, once a second."""

    name: str
    at_s: tuple[float, ...]
    cpu_percent: tuple[float, ...]  # of one core
    rss_mib: tuple[float, ...]
    descriptors: tuple[int, ...]
    threads: tuple[int, ...]

    def growth(self, values: Sequence[float]) -> float | None:
        """Return by what share values grew after SETTLE_S; None where the run was too short."""
        start = [v for t, v in zip(self.at_s, values, strict=True) if 0 <= t - SETTLE_S < EDGE_S]
        last_s = self.at_s[-1] if self.at_s else 0.0
        end = [v for t, v in zip(self.at_s, values, strict=True) if t > last_s - EDGE_S]
        if last_s < SETTLE_S + 2 * EDGE_S or not start or not end:
            return None
        before, after = sum(start) / len(start), sum(end) / len(end)
        return after / before - 1 if before else None


class ModelLoad(msgspec.Struct, frozen=True, kw_only=True):
    """What Triton counted for one model over the run."""

    model: str
    requests: int
    failures: int
    rows: int
    runs: int
    queue_ms: float  # a request, on average
    compute_ms: float

    @property
    def rows_per_run(self) -> float:
        """How well requests were batched together."""
        return self.rows / self.runs if self.runs else 0.0


class QueuePoint(msgspec.Struct, frozen=True):
    """Triton's waiting and computing a request, on average over the time since the last point."""

    at_s: float
    queue_ms: dict[str, float]  # by model
    compute_ms: dict[str, float]


@dataclass
class _Process:
    at_s: list[float] = field(default_factory=list)
    cpu_percent: list[float] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    descriptors: list[int] = field(default_factory=list)
    threads: list[int] = field(default_factory=list)


Counters = Mapping[str, Mapping[str, float]]  # model → counter → value


class Sampler:
    """Samples until it is closed; a context manager.

    Args:
        place: whose parts.
        others: further processes by name: the generator's.
        clock: seconds from the measured part's start.
    """

    def __init__(self, place: Place, others: Mapping[str, int], clock: Callable[[], float]) -> None:
        self._place = place
        self._others = others
        self._clock = clock
        self._stop = threading.Event()
        self._series: dict[str, _Process] = {}
        self._cpu_before: dict[int, tuple[float, float]] = {}
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.queue: list[QueuePoint] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def processes(self) -> tuple[ProcessSeries, ...]:
        """Return what was sampled, of the measured part."""
        return tuple(
            ProcessSeries(
                name=name,
                at_s=tuple(s.at_s),
                cpu_percent=tuple(s.cpu_percent),
                rss_mib=tuple(s.rss_mib),
                descriptors=tuple(s.descriptors),
                threads=tuple(s.threads),
            )
            for name, s in self._series.items()
        )

    def _run(self) -> None:
        ticks, last = 0, triton_counters(self._place)
        while not self._stop.wait(EVERY_S):
            self._sample()
            ticks += 1
            if ticks % SCRAPE_EVERY == 0:
                now = triton_counters(self._place)
                self._note_queue(last, now)
                last = now

    def _note_queue(self, before: Counters, after: Counters) -> None:
        loads = model_loads(before, after)
        if loads:
            self.queue.append(
                QueuePoint(
                    round(self._clock(), 2),
                    {load.model: load.queue_ms for load in loads},
                    {load.model: load.compute_ms for load in loads},
                )
            )

    def _sample(self) -> None:
        now_s = self._clock()
        for name in PARTS:
            try:
                self._note(name, self._place.processes(name), now_s)
            except NotFound:
                continue
        for name, pid in self._others.items():
            with suppress(psutil.NoSuchProcess):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    self._note(name, [process], now_s)

    def _note(self, name: str, processes: Iterable[psutil.Process], now_s: float) -> None:
        cpu = rss = descriptors = threads = 0.0
        for process in processes:
            try:
                with process.oneshot():
                    cpu += self._cpu_percent(process)
                    rss += process.memory_info().rss
                    descriptors += process.num_fds()
                    threads += process.num_threads()
            except psutil.Error:
                continue  # it ended just now
        if now_s < 0:
            return
        series = self._series.setdefault(name, _Process())
        series.at_s.append(round(now_s, 2))
        series.cpu_percent.append(round(cpu, 1))
        series.rss_mib.append(round(rss / 2**20, 2))
        series.descriptors.append(int(descriptors))
        series.threads.append(int(threads))

    def _cpu_percent(self, process: psutil.Process) -> float:
        times = process.cpu_times()
        now_s, used_s = time.monotonic(), times.user + times.system
        before_s, used_before_s = self._cpu_before.get(process.pid, (now_s, used_s))
        self._cpu_before[process.pid] = (now_s, used_s)
        elapsed_s = now_s - before_s
        return 100 * max(0.0, used_s - used_before_s) / elapsed_s if elapsed_s > 0 else 0.0


# ---- counters -----------------------------------------------------------------------------------


def triton_counters(place: Place) -> Counters:
    """Read Triton's counters by model; empty where they cannot be read."""
    try:
        url = place.part("triton").metrics
    except NotFound:
        return {}
    return read_counters(scrape(url)) if url else {}


def cache_lookups(place: Place) -> tuple[float, float] | None:
    """Read the hits and misses of the gateway's cache of query embeddings; None without it."""
    found = {}
    for family in text_string_to_metric_families(scrape(f"{place.url}/metrics")):
        for sample in family.samples:
            if sample.name == "pixserve_embedding_cache_lookups":
                found[sample.labels.get("outcome", "")] = sample.value
    return (found["hit"], found["miss"]) if {"hit", "miss"} <= found.keys() else None


def scrape(url: str) -> str:
    """Read metrics in Prometheus' text format; "" where there are none."""
    try:
        reply = httpx.get(url, timeout=SCRAPE_S)
    except (httpx.HTTPError, httpx.InvalidURL):
        return ""
    is_text = reply.headers.get("content-type", "text/plain").startswith("text/plain")
    return reply.text if reply.status_code == 200 and is_text else ""


def read_counters(text: str) -> Counters:
    """Read Triton's counters out of its metrics, summed over versions."""
    names = {name: short for short, name in TRITON_COUNTERS.items()}
    counted: dict[str, dict[str, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            short = names.get(sample.name) or names.get(sample.name.removesuffix("_total"))
            if short:
                model = counted.setdefault(sample.labels.get("model", ""), {})
                model[short] = model.get(short, 0.0) + sample.value
    return counted


def model_loads(before: Counters, after: Counters) -> tuple[ModelLoad, ...]:
    """Return what each model did between two readings; one that restarted counts from zero."""
    loads = []
    for model, now in sorted(after.items()):
        then = before.get(model, {})
        fresh = any(now.get(name, 0) < value for name, value in then.items())
        change = {
            name: now.get(name, 0.0) - (0.0 if fresh else then.get(name, 0.0))
            for name in TRITON_COUNTERS
        }
        requests = change["requests"] + change["failures"]
        if requests:
            loads.append(
                ModelLoad(
                    model=model,
                    requests=round(change["requests"]),
                    failures=round(change["failures"]),
                    rows=round(change["rows"]),
                    runs=round(change["runs"]),
                    queue_ms=change["queue_us"] / requests / 1_000,
                    compute_ms=change["compute_us"] / requests / 1_000,
                )
            )
    return tuple(loads)
