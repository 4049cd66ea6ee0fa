"""Each encoder of the served bundle: the bare session, Triton with one client, Triton full.

The floor is an ONNX Runtime session in this process with the same file and as many threads as
Triton's instance has; it runs the same rows, tokenized and decoded beforehand. `ensemble` is what
clients call, so its rate includes tokenizing or decoding. Floors and servers are measured by turns,
so that whatever else the machine does falls on both.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from itertools import cycle
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import msgspec
import numpy as np
import onnxruntime as ort
import psutil  # type: ignore[import-untyped]  # it has no types

from deploy.state import read_state
from ensembles.build import machine_cores
from ensembles.bundle import Bundle
from gateway.triton import Triton
from loadtest.floor import open_encoder, served_threads
from loadtest.stack import find_stack, measured_bundle
from loadtest.stats import Latencies, latencies
from loadtest.workloads import Feed, Workload, make_workload, rows_of

ENSEMBLES = {
    "sentence": "embed_text",
    "clip_text": "embed_clip_text",
    "clip_vision": "embed_images",
    "wav2vec2": "embed_audio",
}
TIMEOUT_S = 60.0
WARM_UP = 20  # calls
ROUNDS = 3
ROUND_S = 1.0  # of each measurement of a rate
FLOOR_BATCHES = (1, 8, 32)
FULL_LOADS = ((16, 1), (4, 8), (4, 16), (4, 32))  # clients, rows a call
ENSEMBLE_LOAD = (4, 16)

Call = Callable[[Feed], Awaitable[object]]
T = TypeVar("T")


class Load(msgspec.Struct, frozen=True):
    """A rate under one load, the median of all rounds."""

    clients: int
    batch: int
    per_s: float


class ModelReport(msgspec.Struct, frozen=True):
    """One encoder, three ways."""

    model: str
    precision: str
    threads: int
    bare: Latencies  # one row
    served: Latencies  # the same row through Triton, one client
    floor: Load  # the bare session's best batch, on as many threads as the served model
    floor_all_cores: float  # rows a second of that batch with all the machine's cores
    full: Load  # Triton's best load
    loads: tuple[Load, ...]
    ensemble: str
    ensemble_load: Load
    resident_mib: float
    random_weights: bool

    @property
    def overhead_ms(self) -> float:
        """What Triton adds for one client, at the median."""
        return self.served.ms_p50 - self.bare.ms_p50

    @property
    def ratio(self) -> float:
        """Triton's rate when full as a share of the floor's."""
        return self.full.per_s / self.floor.per_s


async def bench_all(
    data_dir: Path, wanted: Sequence[str], calls: int, done: Callable[[], None]
) -> list[ModelReport]:
    """Measure encoders of the bundle that the stack of a data folder serves.

    Args:
        data_dir: of the running stack.
        wanted: names of models, of `ENSEMBLES`.
        calls: of one client, for each.
        done: told after each model.
    """
    stack = find_stack(data_dir)
    bundle = await measured_bundle(stack)
    state = read_state(stack.data_dir / "run")
    pid = next(p.pid for p in state.parts if p.name == "triton") if state else None
    reports = []
    for model in wanted:
        workload = make_workload(stack.models_dir, bundle, model)
        reports.append(
            await bench_model(stack.triton, pid, stack.models_dir, bundle, model, workload, calls)
        )
        done()
    return reports


async def bench_model(
    address: str,
    triton_pid: int | None,
    models_dir: Path,
    bundle: Bundle,
    model: str,
    workload: Workload,
    calls: int,
) -> ModelReport:
    """Measure one encoder all ways.

    Args:
        address: Triton's, HOST:PORT.
        triton_pid: of the server, whose child is the model's process; None where it is elsewhere.
        models_dir: of the data folder.
        bundle: that is served.
        model: one of `ENSEMBLES`.
        workload: from `text_workload`, `image_workload` or `audio_workload`.
        calls: of one client, a row each.
    """
    triton = Triton(address, bundle)
    bare = open_encoder(models_dir, bundle, model)
    all_cores = open_encoder(models_dir, bundle, model, machine_cores())

    async def served(feed: Feed) -> object:
        return await triton.run_model(model, feed, timeout_s=TIMEOUT_S)

    times = await one_client(bare, served, workload.rows, calls)
    floors, full, ensemble, floor_all = await rates(triton, model, bare, all_cores, workload)
    await triton.close()
    return ModelReport(
        model=model,
        precision=bundle.precisions.get(model, "fp32"),
        threads=served_threads(model),
        bare=latencies(times["bare"]),
        served=latencies(times["served"]),
        floor=best(floors),
        floor_all_cores=floor_all,
        full=best(full),
        loads=tuple(full),
        ensemble=ENSEMBLES[model],
        ensemble_load=ensemble,
        resident_mib=resident_mib(triton_pid, model),
        random_weights=bundle.random_weights,
    )


async def one_client(
    bare: ort.InferenceSession, served: Call, rows: Sequence[Feed], calls: int
) -> dict[str, list[float]]:
    """Run each row both ways, one after the other; the first calls are not counted."""
    times: dict[str, list[float]] = {"bare": [], "served": []}
    for _, row in zip(range(WARM_UP + calls), cycle(rows), strict=False):
        start = time.perf_counter()
        bare.run(None, row)
        between = time.perf_counter()
        await served(row)
        times["bare"].append(between - start)
        times["served"].append(time.perf_counter() - between)
    return {way: seconds[WARM_UP:] for way, seconds in times.items()}


async def rates(
    triton: Triton,
    model: str,
    bare: ort.InferenceSession,
    all_cores: ort.InferenceSession,
    workload: Workload,
) -> tuple[list[Load], list[Load], Load, float]:
    """Measure floors and loads by turns: the floors, Triton's loads, the ensemble, all cores."""

    async def served(feed: Feed) -> object:
        return await triton.run_model(model, feed, timeout_s=TIMEOUT_S)

    async def ensemble(items: Sequence[Any]) -> object:
        return await call_ensemble(triton, model, items)

    sizes = {*FLOOR_BATCHES, *(batch for _, batch in FULL_LOADS)}
    batches = {size: workload.batches(size) for size in sizes}
    clients, size = ENSEMBLE_LOAD
    raw = [workload.raw[i : i + size] for i in range(0, len(workload.raw), size)]
    seen: dict[tuple[str, int, int], list[float]] = {}
    for _ in range(ROUNDS):
        for batch in FLOOR_BATCHES:
            seen.setdefault(("floor", 1, batch), []).append(bare_rate(bare, batches[batch]))
        for load in FULL_LOADS:
            rate = await full_rate(served, batches[load[1]], rows_of, load[0])
            seen.setdefault(("full", *load), []).append(rate)
        rate = await full_rate(ensemble, raw, len, clients)
        seen.setdefault(("ensemble", clients, size), []).append(rate)
        seen.setdefault(("cores", 1, 8), []).append(bare_rate(all_cores, batches[8]))

    def loads(way: str) -> list[Load]:
        return [Load(c, b, median(r)) for (name, c, b), r in seen.items() if name == way]

    return loads("floor"), loads("full"), loads("ensemble")[0], loads("cores")[0].per_s


def best(loads: Iterable[Load]) -> Load:
    """Return the load with the highest rate."""
    return max(loads, key=lambda load: load.per_s)


def bare_rate(session: ort.InferenceSession, batches: Sequence[Feed]) -> float:
    """Run whole rounds of the batches for ROUND_S: rows a second."""
    start, rows = time.perf_counter(), 0
    while time.perf_counter() - start < ROUND_S:
        for feed in batches:
            session.run(None, feed)
            rows += rows_of(feed)
    return rows / (time.perf_counter() - start)


async def full_rate(
    call: Callable[[T], Awaitable[object]],
    batches: Sequence[T],
    size: Callable[[T], int],
    clients: int,
) -> float:
    """Keep `clients` calls under way for ROUND_S: rows a second."""
    start, rows, source = time.perf_counter(), 0, cycle(batches)

    async def client() -> None:
        nonlocal rows
        while time.perf_counter() - start < ROUND_S:
            batch = next(source)
            await call(batch)
            rows += size(batch)

    await asyncio.gather(*(client() for _ in range(clients)))
    return rows / (time.perf_counter() - start)


async def call_ensemble(triton: Triton, model: str, items: Sequence[Any]) -> object:
    """Send raw items to the ensemble that ends in a model."""
    if model == "sentence":
        return await triton.embed_text(items, "query", timeout_s=TIMEOUT_S)
    if model == "clip_text":
        return await triton.embed_clip_text(items, timeout_s=TIMEOUT_S)
    if model == "clip_vision":
        return await triton.embed_images(items, timeout_s=TIMEOUT_S)
    return await triton.embed_audio(np.stack(items), timeout_s=TIMEOUT_S)


def resident_mib(triton_pid: int | None, model: str) -> float:
    """Return the resident memory of a model's process, 0 where it runs elsewhere."""
    if triton_pid is None:
        return 0.0
    for process in psutil.Process(triton_pid).children(recursive=True):
        if any(word.startswith(f"{model}_0_") for word in process.cmdline()):
            return float(process.memory_info().rss) / 2**20
    return 0.0
