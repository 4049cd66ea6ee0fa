"""What `pixserve bench precision` says of a file, and which bundle it takes."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from ensembles.build import MINI
from ensembles.bundle import Bundle, Capabilities, bundle_folder
from gateway.errors import ConfigurationError
from loadtest.bench_precision import fp32_bundle, judge

BUNDLE = Bundle("mini", 1, MINI, Capabilities(False, False, False), {})


def unit_rows(rows: int = 40) -> np.ndarray:
    vectors = np.random.default_rng(0).normal(size=(rows, 16)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def store(models_dir: Path, version: int, precision: str) -> None:
    bundle = msgspec.structs.replace(BUNDLE, version=version, precisions={"sentence": precision})
    folder = bundle_folder(models_dir, "mini", version)
    folder.mkdir(parents=True)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(bundle))


def test_the_same_vectors_pass_and_strangers_are_refused():
    vectors = unit_rows()
    assert judge("same", (1.0,), vectors, vectors).refused == ""
    assert judge("same", (1.0,), vectors, vectors).overlap == 1
    assert "mean cosine" in judge("other", (1.0,), vectors, vectors[::-1].copy()).refused


def test_vectors_that_are_not_numbers_are_refused():
    vectors = unit_rows()
    broken = vectors.copy()
    broken[3, 5] = np.nan
    assert judge("broken", (1.0,), vectors, broken).refused == "int8 returns NaN or infinity"


def test_the_newest_bundle_with_fp32_is_taken(tmp_path: Path):
    for version, precision in enumerate(("fp32", "fp32", "int8"), start=1):
        store(tmp_path, version, precision)
    assert fp32_bundle(tmp_path, "mini").version == 2


def test_without_an_fp32_file_the_command_that_makes_one_is_named(tmp_path: Path):
    store(tmp_path, 1, "int8")
    with pytest.raises(ConfigurationError, match="pixserve export --profile mini --precision fp32"):
        fp32_bundle(tmp_path, "mini")
