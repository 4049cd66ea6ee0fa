"""ONNX files to TensorRT plans, on the machine that serves them.

    python -m export.tensorrt --data-dir /data --profile large

builds, at the first start, what is missing of the plans of the repository that Triton loads; later
starts find them in the cache, `models/<profile>/plans`. To be run inside the serving image: a plan
loads only with the version of TensorRT that built it. Networks are strongly typed: the types of the
ONNX file (`export/fp16.py`) are what the engine computes in. TensorRT's builder has not run yet
(docs/gpu.md); the tests put a stand-in with its interface in its place.

API: TensorRT 10 and 11, `Builder → create_network → OnnxParser → profiles → timing cache →
build_serialized_network`.
"""

import argparse
import hashlib
import importlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

import msgspec

from ensembles.bundle import Bundle, list_bundles, repository_path
from ensembles.contracts import Model, models
from ensembles.shapes import EngineProfile, engine_profiles
from export.checkpoints import content_hash
from export.engines import Builder, Engine, engine_key, not_for_tensorrt, too_old
from export.gpu_device import find_gpu
from export.tensorrt_api import EngineBuilder, OptimizationProfile, TensorRT
from gateway.errors import ConfigurationError

PLAN, ONNX = "model.plan", "model.onnx"
WORKSPACE_BYTES = 4 * 1024**3  # that a tactic may use while it runs
Progress = Callable[[str], None]


def import_tensorrt() -> TensorRT:
    """Return the package.

    Raises:
        ConfigurationError: it is not installed, or too old.
    """
    try:
        package = cast(TensorRT, importlib.import_module("tensorrt"))
    except ImportError as error:
        raise ConfigurationError(
            "the package tensorrt is not installed; build plans inside the serving image "
            "(Dockerfile, target triton), or serve the target cuda, which needs none"
        ) from error
    if reason := too_old(package.__version__):
        raise ConfigurationError(reason)
    return package


def build_all(
    models_dir: Path, profile: str, tensorrt: TensorRT, builder: Builder, progress: Progress
) -> list[Engine]:
    """Put a plan beside each encoder of a profile's repository, building those not cached.

    Args:
        models_dir: of the data folder.
        profile: whose repository.
        tensorrt: the package.
        builder: this machine and that package.
        progress: told of each plan.

    Returns:
        The engines, of all bundles of the repository.

    Raises:
        ConfigurationError: the profile has no repository, or a model cannot become a plan.
    """
    repository = repository_path(models_dir, profile)
    if not repository.is_dir():
        raise ConfigurationError(
            f"{repository} is missing: pixserve export --profile {profile} --target gpu"
        )
    cache = PlanCache(models_dir / profile / "plans", tensorrt, builder)
    engines = []
    for bundle in list_bundles(models_dir, profile):
        for model in models(bundle.dims).values():
            folder = repository / model.name / str(bundle.version)
            if model.runtime == "encoder" and folder.is_dir():
                progress(f"{model.name} of {bundle.id}")
                engines.append(cache.place(model, bundle, folder))
    return engines


class PlanCache:
    """The plans that were built on this data folder, each once."""

    def __init__(self, folder: Path, tensorrt: TensorRT, builder: Builder) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._tensorrt, self._builder = folder, tensorrt, builder

    def place(self, model: Model, bundle: Bundle, folder: Path) -> Engine:
        """Put the plan of an encoder into its version's folder, in one step; returns its engine."""
        if reason := not_for_tensorrt(bundle.precisions.get(model.name, "fp32")):
            raise ConfigurationError(f"{model.name} of {bundle.id}: {reason}")
        files = sorted(file.name for file in folder.glob(f"{ONNX}*"))  # the weights may be apart
        digest = content_hash(folder, tuple(files))
        profiles = engine_profiles(model, bundle.dims)
        key = engine_key(self._builder, digest, profiles, WORKSPACE_BYTES)
        plan = self._folder / f"{model.name}-{key}.plan"
        engine = self._cached(plan)
        if engine is None:
            engine = self._build(model, bundle, folder / ONNX, digest, profiles, plan)
        link_in_place(plan, folder / PLAN)
        return engine

    def _cached(self, plan: Path) -> Engine | None:
        """Return the engine of a plan that is whole, or None."""
        description = plan.with_suffix(".json")
        if not (plan.is_file() and description.is_file()):
            return None
        engine = msgspec.json.decode(description.read_bytes(), type=Engine)
        whole = content_hash(plan.parent, (plan.name,)) == engine.plan_sha256
        return engine if whole else None

    def _build(
        self,
        model: Model,
        bundle: Bundle,
        onnx_path: Path,
        digest: str,
        profiles: tuple[EngineProfile, ...],
        plan: Path,
    ) -> Engine:
        start = time.monotonic()
        timing = self._folder / f"{self._builder.slug}.timing"
        data = build_plan(self._tensorrt, onnx_path, profiles, timing)
        engine = Engine(
            model=model.name,
            bundle=bundle.version,
            builder=self._builder,
            onnx_sha256=digest,
            profiles=profiles,
            plan_sha256=hashlib.sha256(data).hexdigest(),
            plan_bytes=len(data),
            build_s=time.monotonic() - start,
        )
        write_in_place(plan.with_suffix(".json"), msgspec.json.format(msgspec.json.encode(engine)))
        write_in_place(plan, data)
        return engine


def build_plan(
    tensorrt: TensorRT, onnx_path: Path, profiles: Sequence[EngineProfile], timing: Path
) -> bytes:
    """Build one plan.

    Args:
        tensorrt: the package.
        onnx_path: the ONNX file.
        profiles: the optimisation profiles, in the order of their indices.
        timing: the timing cache, read where it is there and written afterwards.

    Raises:
        ConfigurationError: TensorRT cannot read the file, or cannot build it.
    """
    logger = tensorrt.Logger(tensorrt.Logger.WARNING)
    builder = tensorrt.Builder(logger)
    network = builder.create_network(_strongly_typed(tensorrt))
    parser = tensorrt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(onnx_path)):
        errors = "; ".join(str(parser.get_error(index)) for index in range(parser.num_errors))
        raise ConfigurationError(f"TensorRT cannot read {onnx_path}: {errors}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(tensorrt.MemoryPoolType.WORKSPACE, WORKSPACE_BYTES)
    for profile in profiles:
        config.add_optimization_profile(_optimization_profile(builder, profile))
    stored = timing.read_bytes() if timing.is_file() else b""
    config.set_timing_cache(config.create_timing_cache(stored), False)  # of this GPU alone
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ConfigurationError(
            f"TensorRT {tensorrt.__version__} cannot build {onnx_path}; its messages stand above"
        )
    write_in_place(timing, bytes(config.get_timing_cache().serialize()))
    return bytes(plan)


def _strongly_typed(tensorrt: TensorRT) -> int:
    """Return the flags of a strongly typed network; where there is no flag, each network is."""
    flag = getattr(tensorrt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    return 0 if flag is None else 1 << int(flag)


def _optimization_profile(builder: EngineBuilder, profile: EngineProfile) -> OptimizationProfile:
    made = builder.create_optimization_profile()
    for name, shapes in profile.items():
        made.set_shape(name, shapes.least, shapes.best, shapes.most)
    return made


def write_in_place(path: Path, data: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        fresh = Path(folder) / path.name
        fresh.write_bytes(data)
        os.replace(fresh, path)


def link_in_place(source: Path, path: Path) -> None:
    """Put a hard link to a file in the place of another, in one step."""
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        fresh = Path(folder) / path.name
        os.link(source, fresh)
        os.replace(fresh, path)


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the plans of a profile's repository."""
    parser = argparse.ArgumentParser(prog="python -m export.tensorrt")
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--profile", required=True)
    options = parser.parse_args(arguments)
    tensorrt, gpu = import_tensorrt(), find_gpu()
    builder = Builder(gpu.name, gpu.compute_capability, tensorrt.__version__)
    engines = build_all(
        options.data_dir / "models", options.profile, tensorrt, builder, lambda what: say(what)
    )
    for engine in engines:
        say(f"{engine.model}: {engine.plan_bytes / 1e6:.0f} MB, built in {engine.build_s:.0f} s")


def say(line: str) -> None:
    """Print one line at once."""
    print(line, flush=True)  # noqa: T201 (a command's answer)


if __name__ == "__main__":
    main()
