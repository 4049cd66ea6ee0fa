"""TensorRT plans: the shapes, keys and files round the builder, for which a stand-in stands.

The package `tensorrt` comes with the serving image only, so nothing here builds a real plan.
"""

import enum
import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from ensembles.build import MINI
from ensembles.bundle import Bundle, Capabilities, bundle_folder, repository_path
from ensembles.contracts import (
    AUDIO_WINDOW_SAMPLES,
    MAX_AUDIO_SAMPLES,
    TOKEN_BUCKETS,
    bucket,
    models,
)
from ensembles.shapes import BATCHES, engine_profiles, token_lengths, warm_shapes
from export import tensorrt as export_tensorrt
from export.engines import Builder, Engine, engine_key, not_for_tensorrt, too_old
from export.gpu_device import NoGpu, find_gpu, parse_gpu
from export.profiles import PROFILES
from export.tensorrt import build_all, import_tensorrt
from gateway.errors import ConfigurationError

ENCODERS = [name for name, model in models(MINI).items() if model.runtime == "encoder"]
H100 = Builder("NVIDIA H100 80GB HBM3", "9.0", "10.9.0.34")


def takes(profile, name: str, shape: tuple[int, ...]) -> bool:
    least, most = profile[name].least, profile[name].most
    return all(low <= axis <= high for low, axis, high in zip(least, shape, most, strict=True))


@pytest.mark.parametrize("profile_name", sorted(PROFILES))
@pytest.mark.parametrize("model", ENCODERS)
def test_the_shapes_of_a_profile_are_in_order(profile_name, model):
    dims = PROFILES[profile_name].dims
    contract = models(dims)[model]
    for profile in engine_profiles(contract, dims):
        assert list(profile) == [tensor.name for tensor in contract.inputs]
        for tensor in contract.inputs:
            shapes = profile[tensor.name]
            rows = zip(shapes.least, shapes.best, shapes.most, strict=True)
            assert all(1 <= least <= best <= most for least, best, most in rows)
            for axis, fixed in enumerate(tensor.shape, start=1):
                assert fixed in (-1, shapes.least[axis])
                assert fixed in (-1, shapes.most[axis])


@pytest.mark.parametrize("profile_name", sorted(PROFILES))
@pytest.mark.parametrize(("model", "prefix"), [("clip_text", "CLIP"), ("sentence", "SENTENCE")])
def test_every_text_that_the_tokenizer_makes_fits_a_profile_in_every_batch(
    profile_name, model, prefix
):
    dims = PROFILES[profile_name].dims
    limit = dims.clip_tokens if model == "clip_text" else dims.sentence_tokens
    widths = {bucket(length, limit) for length in range(1, limit + 1)}
    assert widths == set(token_lengths(limit))
    profiles = engine_profiles(models(dims)[model], dims)
    for width in widths:
        for batch in range(1, 65):
            assert any(takes(profile, f"{prefix}_IDS", (batch, width)) for profile in profiles)


def test_there_is_a_profile_that_is_quickest_at_each_batch():
    for name in ENCODERS:
        contract = models(MINI)[name]
        first = contract.inputs[0].name
        best = {profile[first].best[0] for profile in engine_profiles(contract, MINI)}
        assert best == set(BATCHES)


def test_sounds_fit_up_to_the_longest_query_and_a_whole_chunk_of_windows():
    profiles = engine_profiles(models(MINI)["wav2vec2"], MINI)

    def fits(rows, samples):
        return any(takes(profile, "AUDIO", (rows, samples)) for profile in profiles)

    assert fits(1, MAX_AUDIO_SAMPLES)
    assert fits(16, MAX_AUDIO_SAMPLES)
    assert fits(64, AUDIO_WINDOW_SAMPLES)
    assert not fits(64, MAX_AUDIO_SAMPLES)  # docs/gpu.md says so


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_warmed_up_fits_a_profile(name):
    contract = models(MINI)[name]
    profiles = engine_profiles(contract, MINI)
    for shape in warm_shapes(contract, MINI, gpu=True):
        tensor = contract.inputs[0]
        axes = (shape.batch, *(shape.length if axis == -1 else axis for axis in tensor.shape))
        assert any(takes(profile, tensor.name, axes) for profile in profiles)


def test_a_query_finds_its_bucket_warm_on_every_target():
    lengths = {shape.length for shape in warm_shapes(models(MINI)["clip_text"], MINI, gpu=False)}
    assert lengths == {size for size in TOKEN_BUCKETS if size <= 32}


def test_another_gpu_version_file_or_shape_is_another_plan():
    profiles = engine_profiles(models(MINI)["clip_vision"], MINI)
    key = engine_key(H100, "a" * 64, profiles, 1)
    others = [
        engine_key(msgspec.structs.replace(H100, gpu="NVIDIA L4"), "a" * 64, profiles, 1),
        engine_key(msgspec.structs.replace(H100, compute_capability="8.9"), "a" * 64, profiles, 1),
        engine_key(msgspec.structs.replace(H100, tensorrt="10.9.0.35"), "a" * 64, profiles, 1),
        engine_key(H100, "b" * 64, profiles, 1),
        engine_key(H100, "a" * 64, profiles[:1], 1),
        engine_key(H100, "a" * 64, profiles, 2),
    ]
    assert key not in others
    assert len(set(others)) == len(others)
    assert key == engine_key(H100, "a" * 64, profiles, 1)


def test_a_builder_names_its_files_without_a_character_that_a_path_could_mind():
    assert H100.slug == "nvidia-h100-80gb-hbm3-sm9.0-trt10.9.0.34"
    assert msgspec.structs.replace(H100, gpu="../../etc").slug == "..-..-etc-sm9.0-trt10.9.0.34"


@pytest.mark.parametrize("version", ["8.6.1", "9.3.0", "", "unknown"])
def test_an_old_tensorrt_is_refused(version):
    assert "10.0 or later" in too_old(version)


@pytest.mark.parametrize("version", ["10.0.1", "10.13.2", "11.1.0"])
def test_a_new_one_is_not(version):
    assert too_old(version) == ""


def test_without_the_package_it_is_said_where_plans_are_built(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tensorrt", None)
    with pytest.raises(ConfigurationError, match=r"inside the serving image"):
        import_tensorrt()


def test_a_gpu_is_read_from_what_the_driver_says():
    gpu = parse_gpu("NVIDIA H100 80GB HBM3, 9.0, 570.86.15, 81559")
    assert (gpu.name, gpu.compute_capability) == ("NVIDIA H100 80GB HBM3", "9.0")
    assert (gpu.driver, gpu.memory_mib) == ("570.86.15", 81559)


@pytest.mark.parametrize("line", ["No devices were found", "NVIDIA H100, 9.0, 570, [N/A]", "a, b"])
def test_what_is_no_gpu_is_said(line):
    with pytest.raises(NoGpu):
        find_gpu(lambda _command: line)


def test_an_empty_list_is_no_gpu():
    with pytest.raises(NoGpu, match="lists no GPU"):
        find_gpu(lambda _command: "\n")


class FakeBuilt:
    """What a build was asked for; its plan is a digest of that."""

    def __init__(self) -> None:
        self.networks: list[int] = []
        self.parsed: list[Path] = []
        self.profiles: list[dict[str, Any]] = []
        self.timing_read: list[bytes] = []
        self.refuses = ""
        self.breaks = False


class Flags(enum.IntEnum):
    STRONGLY_TYPED = 1


class FakeTensorRT:
    """The interface of TensorRT's Python package, without an engine behind it."""

    __version__ = H100.tensorrt
    NetworkDefinitionCreationFlag: Any = Flags
    MemoryPoolType = SimpleNamespace(WORKSPACE="workspace")

    def __init__(self, built: FakeBuilt) -> None:
        self._built = built

    class Logger:
        WARNING = 2

        def __init__(self, _level: int) -> None:
            pass

    def Builder(self, _logger: Any) -> Any:  # noqa: N802
        return FakeBuilder(self._built)

    def OnnxParser(self, _network: Any, _logger: Any) -> Any:  # noqa: N802
        return FakeParser(self._built)


class FakeParser:
    num_errors = 1

    def __init__(self, built: FakeBuilt) -> None:
        self._built = built

    def parse_from_file(self, path: str) -> bool:
        self._built.parsed.append(Path(path))
        return not self._built.refuses

    def get_error(self, _index: int) -> str:
        return self._built.refuses


class FakeBuilder:
    def __init__(self, built: FakeBuilt) -> None:
        self._built = built

    def create_network(self, flags: int) -> Any:
        self._built.networks.append(flags)
        return object()

    def create_builder_config(self) -> Any:
        return FakeConfig(self._built)

    def create_optimization_profile(self) -> Any:
        return FakeProfile()

    def build_serialized_network(self, _network: Any, config: "FakeConfig") -> Any:
        assert config.pool == ("workspace", export_tensorrt.WORKSPACE_BYTES)
        self._built.profiles.append({k: v for p in config.profiles for k, v in p.shapes.items()})
        return None if self._built.breaks else b"plan of " + self._built.parsed[-1].read_bytes()


class FakeProfile:
    def __init__(self) -> None:
        self.shapes: dict[str, Any] = {}

    def set_shape(self, name: str, least: Any, best: Any, most: Any) -> None:
        self.shapes[name] = (least, best, most)


class FakeConfig:
    def __init__(self, built: FakeBuilt) -> None:
        self._built = built
        self.profiles: list[FakeProfile] = []
        self.pool: tuple[Any, int] | None = None
        self._cache = b""

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        self.pool = (pool, pool_size)

    def add_optimization_profile(self, profile: FakeProfile) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized: bytes) -> Any:
        self._built.timing_read.append(serialized)
        return serialized

    def set_timing_cache(self, cache: bytes, _ignore_mismatch: bool) -> bool:
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self._cache + b".")


@pytest.fixture
def built() -> FakeBuilt:
    return FakeBuilt()


def make_repository(root: Path, precision: str = "fp16") -> Path:
    """Fill the repository of one bundle with files that stand for its encoders."""
    bundle = Bundle("mini", 1, MINI, Capabilities(False, False, False), {})
    bundle = msgspec.structs.replace(bundle, precisions=dict.fromkeys(ENCODERS, precision))
    folder = bundle_folder(root, "mini", 1)
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(bundle))
    for name in ENCODERS:
        version = repository_path(root, "mini") / name / "1"
        version.mkdir(parents=True)
        (version / "model.onnx").write_bytes(name.encode())
    return root


def build(root: Path, built: FakeBuilt, builder: Builder = H100) -> list[Engine]:
    return build_all(root, "mini", FakeTensorRT(built), builder, lambda _what: None)


def plan_of(root: Path, name: str) -> Path:
    return repository_path(root, "mini") / name / "1" / "model.plan"


def test_each_encoder_gets_its_plan_from_a_strongly_typed_network(tmp_path, built):
    engines = build(make_repository(tmp_path), built)
    assert [engine.model for engine in engines] == ENCODERS
    assert built.networks == [1 << Flags.STRONGLY_TYPED] * len(ENCODERS)
    for engine in engines:
        plan = plan_of(tmp_path, engine.model).read_bytes()
        assert plan == b"plan of " + engine.model.encode()
        assert engine.plan_sha256 == hashlib.sha256(plan).hexdigest()
        assert engine.builder == H100
    vision = built.profiles[ENCODERS.index("clip_vision")]["PIXELS"]
    assert vision == ((1, 3, 96, 96), (64, 3, 96, 96), (64, 3, 96, 96))


def test_without_the_flag_every_network_is_strongly_typed(tmp_path, built, monkeypatch):
    monkeypatch.setattr(FakeTensorRT, "NetworkDefinitionCreationFlag", SimpleNamespace())
    build(make_repository(tmp_path), built)
    assert set(built.networks) == {0}


def test_the_second_start_builds_nothing(tmp_path, built):
    first = build(make_repository(tmp_path), built)
    for name in ENCODERS:
        plan_of(tmp_path, name).unlink()  # the repository was made anew
    second = build(tmp_path, FakeBuilt())
    assert second == first
    assert all(plan_of(tmp_path, name).is_file() for name in ENCODERS)
    assert len(built.parsed) == len(ENCODERS)


def test_another_gpu_builds_its_own_plans_and_keeps_the_others(tmp_path, built):
    build(make_repository(tmp_path), built)
    l4 = Builder("NVIDIA L4", "8.9", H100.tensorrt)
    other = FakeBuilt()
    build(tmp_path, other, l4)
    assert len(other.parsed) == len(ENCODERS)
    assert other.timing_read[0] == b""  # timings of one GPU mean nothing on another
    again = FakeBuilt()
    build(tmp_path, again)
    assert again.parsed == []


def test_a_damaged_plan_is_built_again(tmp_path, built):
    engine, *_ = build(make_repository(tmp_path), built)
    plan = next((tmp_path / "mini" / "plans").glob(f"{engine.model}-*.plan"))
    plan.unlink()
    plan.write_bytes(b"half a pl")
    again = FakeBuilt()
    build(tmp_path, again)
    assert [path.parent.parent.name for path in again.parsed] == [engine.model]
    assert plan_of(tmp_path, engine.model).read_bytes() == b"plan of " + engine.model.encode()


def test_timings_are_kept_from_build_to_build(tmp_path, built):
    build(make_repository(tmp_path), built)
    assert built.timing_read == [b"." * n for n in range(len(ENCODERS))]


def test_a_failed_build_leaves_no_plan_and_says_what_tensorrt_says(tmp_path, built):
    built.refuses = "node 7: unsupported operator"
    with pytest.raises(ConfigurationError, match="node 7: unsupported operator"):
        build(make_repository(tmp_path), built)
    built.refuses, built.breaks = "", True
    with pytest.raises(ConfigurationError, match=r"cannot build .*model\.onnx"):
        build(tmp_path, built)
    assert not list(tmp_path.rglob("*.plan"))


def test_int8_is_refused_with_what_to_do(tmp_path, built):
    with pytest.raises(ConfigurationError, match="--target gpu"):
        build(make_repository(tmp_path, "int8"), built)
    assert not_for_tensorrt("fp16") == not_for_tensorrt("fp32") == ""


def test_a_profile_that_was_not_exported_is_refused_with_what_to_do(tmp_path, built):
    with pytest.raises(ConfigurationError, match="pixserve export --profile mini --target gpu"):
        build(tmp_path, built)
