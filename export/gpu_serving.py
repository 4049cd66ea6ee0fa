"""The steps of the GPU check that serve: the local stack on the target cuda, and TensorRT plans.

They have run on no GPU yet (docs/gpu.md).
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from deploy.launch import Plan, check, run_in_background, stop
from deploy.parts import run_dir
from deploy.ports import pick_free
from deploy.state import read_state
from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle, repository_path
from ensembles.contracts import models
from ensembles.shapes import BATCHES
from export.build import Order, export_bundle
from export.encoders import sample_inputs
from export.engines import Builder
from export.gpu_device import find_gpu, used_memory_mib, utilisation
from export.gpu_report import Row, Skipped
from export.gpu_steps import (
    MEASURED,
    ROUND_S,
    figures,
    folder_of,
    mini,
    require_alike,
    require_cuda,
    speed_row,
)
from export.parity import compare
from export.precision import run_encoder
from export.profiles import PROFILES
from export.samples import Feed
from export.tensorrt import build_all, import_tensorrt
from gateway.errors import ConfigurationError, ModelFailed, Unavailable
from gateway.settings import Settings
from gateway.triton import Triton

CLIENTS = 4  # calls under way, so that Triton's batcher has something to merge
TIMEOUT_S = 120.0
LEAST_MIB = 100  # that a process with a CUDA context has of a GPU's memory
READY_S = 600.0  # for a stack whose models are loaded to a GPU for the first time


def stack_parity(work: Path) -> list[Row]:
    """Serve `mini` in fp16 by the local stack on the GPU and compare each encoder with the CPU."""
    require_cuda()
    exact, halved = mini(work, "fp32"), mini(work, "fp16")
    folder = folder_of(work, exact, "fp32")
    tries = sample_inputs(PROFILES["mini"], models(exact.dims), folder / "tokenize")
    rows: list[Row] = []
    with serving(work / "fp16", "mini") as address:
        for name in exact.precisions:
            feeds = list(tries[name].judged)
            served = asyncio.run(_run_all(address, halved, name, feeds))
            likeness = compare(run_encoder(folder / name / "model.onnx", feeds), served)
            require_alike(f"{name}, served", likeness)
            rows.append({"model": name, **figures(likeness)})
    return rows


async def _run_all(address: str, bundle: Bundle, model: str, feeds: list[Feed]) -> FloatArray:
    triton = Triton(address, bundle)
    outputs = [await triton.run_model(model, feed, timeout_s=TIMEOUT_S) for feed in feeds]
    await triton.close()
    return np.concatenate([next(iter(output.values())) for output in outputs])


def stack_speed(work: Path) -> list[Row]:
    """Serve ViT-L/14 with random weights by the local stack and measure it with CLIENTS clients."""
    order = Order(target="gpu", random_weights=True)
    data_dir = work / "stack"
    require_cuda()
    bundle = export_bundle(MEASURED, data_dir / "models", lambda *_: None, order)
    size = bundle.dims.image_size_px
    rng = np.random.default_rng(7)
    rows: list[Row] = []
    with serving(data_dir, MEASURED, allow_random_weights=True) as address:
        for batch in BATCHES:
            pixels = rng.integers(0, 256, (batch, 3, size, size), dtype=np.uint8)
            start = time.perf_counter()
            with utilisation() as readings:
                times = asyncio.run(_load(address, bundle, pixels))
            wall_s = time.perf_counter() - start
            rows.append(
                {**speed_row(times, batch, readings), "rows/s": batch * len(times) / wall_s}
            )
    return rows


async def _load(address: str, bundle: Bundle, pixels: Any) -> list[float]:
    """Keep CLIENTS calls under way for ROUND_S; returns the time of each."""
    triton, times, start = Triton(address, bundle), [], time.perf_counter()

    async def client() -> None:
        while time.perf_counter() - start < ROUND_S:
            before = time.perf_counter()
            await triton.run_model("clip_vision", {"PIXELS": pixels}, timeout_s=TIMEOUT_S)
            times.append(time.perf_counter() - before)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    await triton.close()
    return times


@contextmanager
def serving(data_dir: Path, profile: str, *, allow_random_weights: bool = False) -> Iterator[str]:
    """Run the whole local stack on the target cuda; gives Triton's address, HOST:PORT.

    Raises:
        Skipped: ONNX Runtime has no CUDA provider, or Triton's wheel is missing.
        Unavailable: a part did not start.
        ModelFailed: all runs, but the GPU's memory stays empty: the models run on the CPU.
    """
    settings = Settings(
        data_dir=str(data_dir),
        profile=profile,
        port=pick_free(),
        target="cuda",
        allow_random_weights=allow_random_weights,
    )
    plan = Plan(settings, ready_s=READY_S)
    folder = run_dir(settings)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        check(plan)
    except ConfigurationError as error:
        raise Skipped(str(error)) from error
    used_mib = used_memory_mib()
    run_in_background(plan, lambda _state: None)
    try:
        if used_memory_mib() - used_mib < LEAST_MIB:
            raise ModelFailed("triton", f"its models use less than {LEAST_MIB} MiB of the GPU")
        state = read_state(folder)
        if state is None:
            raise Unavailable("stack", "it ended as soon as it was ready")
        yield state.part("triton").address
    finally:
        stop(folder)


def tensorrt_plans(work: Path) -> list[Row]:
    """Build the plans of `mini` in fp16, and run each that torch can give memory to, on the GPU."""
    try:
        tensorrt = import_tensorrt()
    except ConfigurationError as error:
        raise Skipped(str(error)) from error
    gpu, bundle = find_gpu(), mini(work, "fp16")
    builder = Builder(gpu.name, gpu.compute_capability, tensorrt.__version__)
    models_dir = work / "fp16" / "models"
    engines = build_all(models_dir, "mini", tensorrt, builder, lambda _what: None)
    contracts = models(bundle.dims)
    folder = folder_of(work, bundle, "fp16")
    tries = sample_inputs(PROFILES["mini"], contracts, folder / "tokenize")
    rows: list[Row] = []
    for engine in engines:
        plan = repository_path(models_dir, "mini") / engine.model / str(engine.bundle)
        feed = tries[engine.model].judged[0]
        expected = run_encoder(folder / engine.model / "model.onnx", [feed])
        row: Row = {"model": engine.model, "MB": engine.plan_bytes / 1e6, "built s": engine.build_s}
        (output,) = contracts[engine.model].outputs
        likeness = compare(expected, _run_plan(tensorrt, plan / "model.plan", feed, output.name))
        require_alike(f"{engine.model}, TensorRT", likeness)
        rows.append({**row, **figures(likeness)})
    return rows


def _run_plan(tensorrt: Any, plan: Path, feed: Feed, output: str) -> FloatArray:
    """Run a plan once, its profile 0, in memory that torch allocates on the GPU."""
    import torch

    if not torch.cuda.is_available():
        raise Skipped("the plans were built; to run them here torch with CUDA is needed")
    runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
    engine = runtime.deserialize_cuda_engine(plan.read_bytes())
    context = engine.create_execution_context()
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch gives it no types
    context.set_optimization_profile_async(_profile_for(engine, feed), stream.cuda_stream)
    held = {name: torch.from_numpy(array).cuda() for name, array in feed.items()}
    for name, tensor in held.items():
        context.set_input_shape(name, tuple(tensor.shape))
        context.set_tensor_address(name, tensor.data_ptr())
    result = torch.empty(tuple(context.get_tensor_shape(output)), device="cuda")
    context.set_tensor_address(output, result.data_ptr())
    torch.cuda.synchronize()
    context.execute_async_v3(stream.cuda_stream)
    stream.synchronize()
    embeddings: FloatArray = result.cpu().numpy()
    return embeddings


def _profile_for(engine: Any, feed: Feed) -> int:
    """Return the index of the first optimisation profile that takes a feed.

    Raises:
        Unavailable: none does.
    """
    for index in range(engine.num_optimization_profiles):
        ranges = {name: engine.get_tensor_profile_shape(name, index) for name in feed}
        if all(
            low <= axis <= high
            for name, (least, _, most) in ranges.items()
            for low, axis, high in zip(least, feed[name].shape, most, strict=True)
        ):
            return index
    raise Unavailable("tensorrt", f"no profile takes {[a.shape for a in feed.values()]}")
