"""int8: what it computes, that smoothing changes nothing in fp32, and that the gate is kept."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from torch import nn

from ensembles.contracts import Model, Tensor
from export.onnx import export_onnx, save_onnx, split_off
from export.parity import INT8_COSINE, compare
from export.precision import Sample, Wanted, run_encoder, write_encoder
from export.quantize import RECIPES, quantise, recipes_for, smooth
from gateway.errors import ConfigurationError

WIDTH = 32
CONTRACT = Model(
    "toy",
    "encoder",
    8,
    (Tensor("AUDIO", "FP32", (-1, WIDTH)),),
    (Tensor("EMBEDDING", "FP32", (WIDTH,)),),
    "A small encoder with one strong channel.",
)


class Toy(nn.Module):
    """A feed-forward block whose input has one channel that drowns the others."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.norm = nn.LayerNorm(WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)
        with torch.no_grad():
            self.norm.weight[0] = 400
            self.up.weight[:, 0] *= 0.002

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.down(torch.nn.functional.gelu(self.up(self.norm(x))))
        return nn.functional.normalize(hidden.mean(dim=1), dim=-1)


def feeds(count: int, seed: int) -> list[dict[str, np.ndarray]]:
    rng = np.random.default_rng(seed)
    return [{"AUDIO": rng.normal(size=(4, 6, WIDTH)).astype(np.float32)} for _ in range(count)]


@pytest.fixture(scope="module")
def fp32(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("toy") / "model.onnx"
    export_onnx(Toy().eval(), CONTRACT, path)
    return path


def sample() -> Sample:
    return Sample(exact=feeds(2, 0), judged=feeds(8, 1), seen=feeds(4, 2))


def test_smoothing_changes_nothing_in_fp32(fp32, tmp_path):
    smooth(fp32, feeds(4, 2), tmp_path / "smoothed.onnx")
    expected, actual = (
        run_encoder(path, feeds(4, 1)) for path in (fp32, tmp_path / "smoothed.onnx")
    )
    assert compare(expected, actual).least_cosine >= 0.99999


def test_a_strong_channel_costs_int8_its_precision_unless_it_is_smoothed(fp32, tmp_path):
    smooth(fp32, feeds(4, 2), tmp_path / "smoothed.onnx")
    expected = run_encoder(fp32, feeds(8, 1))
    cosines = {}
    for name, source in (("plain", fp32), ("smoothed", tmp_path / "smoothed.onnx")):
        quantise(source, RECIPES[0], tmp_path / f"{name}-int8.onnx")
        embeddings = run_encoder(tmp_path / f"{name}-int8.onnx", feeds(8, 1))
        cosines[name] = compare(expected, embeddings).mean_cosine
    assert cosines["plain"] < INT8_COSINE < cosines["smoothed"]


def test_the_last_recipe_leaves_the_contracting_matmul_in_fp32(fp32, tmp_path):
    smooth(fp32, feeds(4, 2), tmp_path / "smoothed.onnx")
    recipes = recipes_for(tmp_path / "smoothed.onnx")
    for index, recipe in enumerate(recipes):
        quantise(tmp_path / "smoothed.onnx", recipe, tmp_path / f"{index}.onnx")
    ops = [_op_types(tmp_path / f"{index}.onnx") for index in range(len(recipes))]
    assert [types.count("MatMulInteger") for types in ops] == [2, 1]
    assert [types.count("MatMul") for types in ops] == [0, 1]


def _op_types(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(str(path)).graph.node]


def test_int8_is_kept_where_it_passes_and_leaves_one_file(tmp_path):
    path = tmp_path / "model.onnx"
    report, embeddings = write_encoder(Toy().eval(), CONTRACT, sample(), Wanted("auto"), path)
    assert report.precision == "int8"
    assert report.int8 is not None
    assert report.int8.mean_cosine >= INT8_COSINE
    assert [file.name for file in tmp_path.iterdir()] == ["model.onnx"]
    assert "MatMulInteger" in _op_types(path)
    assert np.array_equal(run_encoder(path, sample().judged), embeddings)


def test_fp32_is_kept_where_int8_fails_and_the_report_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr("export.parity.INT8_OVERLAP", 1.01)
    path = tmp_path / "model.onnx"
    report, _ = write_encoder(Toy().eval(), CONTRACT, sample(), Wanted("auto"), path)
    assert report.precision == "fp32"
    assert "nearest" in report.verdict
    assert "MatMulInteger" not in _op_types(path)
    forced, _ = write_encoder(
        Toy().eval(), CONTRACT, sample(), Wanted("int8", trust_int8=True), tmp_path / "forced.onnx"
    )
    assert forced.precision == "int8"
    assert "random weights" in forced.verdict


def test_no_int8_is_tried_where_fp32_is_wanted(tmp_path):
    report, _ = write_encoder(
        Toy().eval(), CONTRACT, sample(), Wanted("fp32"), tmp_path / "model.onnx"
    )
    assert (report.precision, report.int8) == ("fp32", None)


def test_an_encoder_that_returns_nan_is_not_exported(tmp_path):
    module = Toy().eval()
    with torch.no_grad():
        module.up.weight[3, 3] = float("nan")
    with pytest.raises(ConfigurationError, match="NaN or infinity"):
        write_encoder(module, CONTRACT, sample(), Wanted("auto"), tmp_path / "model.onnx")


def test_a_model_over_the_limit_of_protobuf_keeps_its_weights_beside_it(
    fp32, tmp_path, monkeypatch
):
    monkeypatch.setattr("export.onnx.FILE_LIMIT_BYTES", 1_000)
    path = tmp_path / "model.onnx"
    save_onnx(onnx.load(str(fp32)), path)
    assert split_off(1_001)
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert np.array_equal(run_encoder(path, feeds(2, 1)), run_encoder(fp32, feeds(2, 1)))
    report, _ = write_encoder(Toy().eval(), CONTRACT, sample(), Wanted("auto"), path)
    assert report.precision == "int8"
    assert {file.name for file in tmp_path.iterdir()} == {"model.onnx", "model.onnx.data"}
    assert ort.InferenceSession(path, providers=["CPUExecutionProvider"]).get_outputs()
