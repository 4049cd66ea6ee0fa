"""fp16: what becomes fp16, what stays in fp32, and that the gate is kept."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto
from torch import nn

from ensembles.contracts import Model, Tensor
from export.build import Order, export_bundle, ordered_precision
from export.fp16 import LARGEST, halve
from export.onnx import export_onnx
from export.parity import FP16_COSINE, compare
from export.precision import Sample, Wanted, run_encoder, write_encoder
from export.profiles import PROFILES
from gateway.errors import InvalidRequest

WIDTH = 32
CONTRACT = Model(
    "toy",
    "encoder",
    8,
    (Tensor("FRAMES", "FP32", (-1, WIDTH)),),
    (Tensor("EMBEDDING", "FP32", (WIDTH,)),),
    "An encoder that centres its input, projects, attends, normalises, projects and pools.",
)


class Toy(nn.Module):
    def __init__(self, gain: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.last = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.gain = gain

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        centred = x - x.mean(dim=1, keepdim=True)
        hidden = self.gain * torch.relu(self.first(centred))
        attention = torch.softmax(hidden @ hidden.transpose(1, 2) / self.gain**2, dim=-1)
        projected = self.last(self.norm(attention @ hidden))
        return nn.functional.normalize(projected.mean(dim=1), dim=-1)


def feeds(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"FRAMES": rng.normal(size=(4, 6, WIDTH)).astype(np.float32)} for _ in range(count)]


def sample() -> Sample:
    return Sample(exact=feeds(2, 0), judged=feeds(8, 1), seen=feeds(4, 2))


def halved(folder: Path, gain: float = 1.0) -> tuple[Path, Path]:
    fp32, fp16 = folder / "fp32.onnx", folder / "fp16.onnx"
    export_onnx(Toy(gain).eval(), CONTRACT, fp32)
    halve(fp32, feeds(4, 2), fp16)
    return fp32, fp16


def types(path: Path) -> dict[str, list[int]]:
    """The types of the first inputs of all nodes of a kind."""
    model = onnx.load(str(path))
    onnx.checker.check_model(model, full_check=True)
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    known = {t.name: t.data_type for t in inferred.initializer}
    for value in (*inferred.value_info, *inferred.input, *inferred.output):
        known[value.name] = value.type.tensor_type.elem_type
    kinds: dict[str, list[int]] = {}
    for node in inferred.node:
        if node.input:
            kinds.setdefault(node.op_type, []).append(known[node.input[0]])
    return kinds


def test_products_are_fp16_and_what_is_sensitive_stays_fp32(tmp_path):
    kinds = types(halved(tmp_path)[1])
    assert set(kinds["MatMul"]) == {TensorProto.FLOAT16}
    for op in ("Softmax", "LayerNormalization", "ReduceMean", "ReduceL2"):
        assert set(kinds[op]) == {TensorProto.FLOAT}, op
    assert kinds["Sub"] == [TensorProto.FLOAT]  # before the first product


def test_an_fp16_file_has_the_contracts_types_and_returns_nearly_the_same(tmp_path):
    fp32, fp16 = halved(tmp_path)
    graph = onnx.load(str(fp16)).graph
    assert [v.type.tensor_type.elem_type for v in (*graph.input, *graph.output)] == [1, 1]
    expected, actual = (run_encoder(path, feeds(8, 1)) for path in (fp32, fp16))
    assert compare(expected, actual).least_cosine >= 0.9999
    assert not np.array_equal(expected, actual)  # the weights were rounded
    assert fp16.stat().st_size < fp32.stat().st_size


def test_numbers_that_fp16_cannot_hold_stay_in_fp32(tmp_path):
    gain = LARGEST  # of activations: their products are far over fp16's largest number
    fp32, fp16 = halved(tmp_path, gain)
    assert TensorProto.FLOAT in types(fp16)["MatMul"]
    assert TensorProto.FLOAT16 in types(fp16)["MatMul"]
    expected, actual = (run_encoder(path, feeds(8, 1)) for path in (fp32, fp16))
    assert compare(expected, actual).mean_cosine >= FP16_COSINE


def test_fp16_is_kept_where_it_passes(tmp_path):
    path = tmp_path / "model.onnx"
    report, embeddings = write_encoder(Toy().eval(), CONTRACT, sample(), Wanted("fp16"), path)
    assert (report.precision, report.verdict) == ("fp16", "fp16 passes")
    assert report.fp16 is not None
    assert report.fp16.mean_cosine >= FP16_COSINE
    assert report.overlap is not None
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert TensorProto.FLOAT16 in types(path)["MatMul"]
    assert np.array_equal(run_encoder(path, sample().judged), embeddings)


def test_fp32_is_kept_where_fp16_fails_and_the_report_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("export.parity.FP16_COSINE", 1.01)
    path = tmp_path / "model.onnx"
    report, _ = write_encoder(Toy().eval(), CONTRACT, sample(), Wanted("fp16"), path)
    assert report.precision == "fp32"
    assert "mean cosine" in report.verdict
    assert set(types(path)["MatMul"]) == {TensorProto.FLOAT}


def test_fp16_with_nan_never_passes(tmp_path, monkeypatch):
    def broken(path: Path, _feeds: object, destination: Path) -> None:
        model = onnx.load(str(path))
        for tensor in model.graph.initializer:
            if len(tensor.dims) == 2:
                values = np.full(tensor.dims, np.nan, np.float32)
                tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
        onnx.save(model, str(destination))

    monkeypatch.setattr("export.precision.halve", broken)
    path = tmp_path / "model.onnx"
    report, _ = write_encoder(Toy().eval(), CONTRACT, sample(), Wanted("fp16"), path)
    assert (report.precision, report.verdict) == ("fp32", "fp32: fp16 returns NaN or infinity")


def test_a_gpu_gets_fp16_unless_fp32_is_asked_for():
    for profile in PROFILES.values():
        assert ordered_precision(profile, Order(target="gpu")) == "fp16"
        assert ordered_precision(profile, Order(target="gpu", precision="auto")) == "fp16"
        assert ordered_precision(profile, Order(target="gpu", precision="fp32")) == "fp32"
        assert ordered_precision(profile, Order()) == profile.precision
    with pytest.raises(InvalidRequest, match="int8 is for CPUs"):
        ordered_precision(PROFILES["base"], Order(target="gpu", precision="int8"))


def test_a_profile_is_exported_in_fp16_but_for_its_fusion_network(tmp_path):
    bundle = export_bundle(
        "mini", tmp_path, lambda *_: None, Order(target="gpu", random_weights=True)
    )
    assert {name for name, kept in bundle.precisions.items() if kept == "fp32"} == {"fusion"}
    assert set(bundle.precisions.values()) == {"fp16", "fp32"}
