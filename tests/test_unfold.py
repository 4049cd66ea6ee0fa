"""Convolutions over time as MatMuls: the same numbers, and int8 takes them."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import helper, numpy_helper

from export.onnx import save_onnx
from export.quantize import RECIPES, quantise, recipes_for, smooth
from export.unfold import unfold_convolutions

CHANNELS, OUTPUTS = 32, 24


def convolution(
    width: int, *, channels: int = CHANNELS, bias: bool = True, **told: object
) -> onnx.ModelProto:
    """A model of one convolution, of (batch, channels, time)."""
    rng = np.random.default_rng(1)
    groups = told.get("group", 1)
    weight = rng.normal(size=(OUTPUTS, channels // groups, width)).astype(np.float32)
    weights = [numpy_helper.from_array(weight, "weight")]
    if bias:
        weights.append(numpy_helper.from_array(rng.normal(size=OUTPUTS).astype(np.float32), "bias"))
    kind = onnx.TensorProto.FLOAT
    sound = [
        helper.make_tensor_value_info(name, kind, ("batch", size, f"{name}_steps"))
        for name, size in (("x", channels), ("y", OUTPUTS))
    ]
    copied = helper.make_node(
        "Identity", ["x"], ["copy"], name="copied"
    )  # computed, as in a network
    inputs = ["copy", *(tensor.name for tensor in weights)]
    node = helper.make_node("Conv", inputs, ["y"], name="conv", **told)
    graph = helper.make_graph([copied, node], "g", sound[:1], sound[1:], weights)
    opset = helper.make_opsetid("", 17)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def run(model: onnx.ModelProto | Path, x: np.ndarray) -> np.ndarray:
    source = str(model) if isinstance(model, Path) else model.SerializeToString()
    session = ort.InferenceSession(source, providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x})
    return y


def sound(steps: int, channels: int = CHANNELS) -> np.ndarray:
    return np.random.default_rng(steps).normal(size=(2, channels, steps)).astype(np.float32)


def ops(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


@pytest.mark.parametrize(("width", "stride"), [(2, 1), (2, 2), (3, 2), (3, 1), (10, 5), (4, 7)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_same_numbers_whatever_the_length(width: int, stride: int, bias: bool) -> None:
    model = convolution(width, bias=bias, strides=[stride])
    lengths = range(width, width + 3 * stride + 2)
    expected = [run(model, sound(steps)) for steps in lengths]
    unfold_convolutions(model)
    onnx.checker.check_model(model)

    assert "Conv" not in ops(model)
    for steps, y in zip(lengths, expected, strict=True):
        np.testing.assert_allclose(run(model, sound(steps)), y, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "told", [{"pads": [1, 1]}, {"dilations": [2]}, {"group": 2}, {"auto_pad": "SAME_UPPER"}]
)
def test_other_convolutions_stay(told: dict[str, object]) -> None:
    model = convolution(3, **told)
    unfold_convolutions(model)
    assert ops(model) == ["Identity", "Conv"]


def test_a_convolution_that_reads_few_numbers_stays() -> None:
    model = convolution(10, channels=1, strides=[5])
    unfold_convolutions(model)
    assert "Conv" in ops(model)


def test_int8_takes_them_by_the_first_recipe_alone(tmp_path: Path) -> None:
    model = convolution(3, strides=[2])
    save_onnx(model, tmp_path / "fp32.onnx")
    feeds = [{"x": sound(steps)} for steps in (41, 60)]
    smooth(tmp_path / "fp32.onnx", feeds, tmp_path / "smoothed.onnx")
    assert recipes_for(tmp_path / "smoothed.onnx") == RECIPES
    quantised = []
    for recipe in RECIPES:
        quantise(tmp_path / "smoothed.onnx", recipe, tmp_path / "int8.onnx")
        quantised.append("MatMulInteger" in ops(onnx.load(str(tmp_path / "int8.onnx"))))
        y, expected = run(tmp_path / "int8.onnx", sound(50)), run(model, sound(50))
        assert np.corrcoef(y.ravel(), expected.ravel())[0, 1] > 0.999
    assert quantised == [True, False, False]
