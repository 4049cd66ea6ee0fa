"""fp32 ONNX to dynamic int8 ONNX.

ONNX Runtime scales the activations of a MatMul by one number for the whole tensor, so one strong
channel takes the others' precision. SmoothQuant (Xiao et al. 2022, arXiv:2211.10438) moves that
strength into the weights first: X·W = (X/s)·(s·W), with s from a few real inputs. What is still
too coarse is mostly the projection at the end of a feed-forward block.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime as ort
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from ensembles.arrays import FloatArray
from export.onnx import file_bytes, save_onnx, split_off
from export.unfold import UNFOLDED, unfold_convolutions

SMOOTHING = 0.6  # alpha of SmoothQuant: how much of the activations' spread the weights take
LEAST_STRENGTH = 1e-5

Feed = Mapping[str, Any]


class Recipe(msgspec.Struct, frozen=True):
    """Which MatMuls are quantised."""

    name: str
    unfolded: bool  # convolutions over time, which `smooth` makes MatMuls of
    contracting: bool  # those with more inputs than outputs: a feed-forward block's last


RECIPES = (
    Recipe("every MatMul and convolution over time", unfolded=True, contracting=True),
    Recipe("every MatMul", unfolded=False, contracting=True),
    Recipe("every MatMul but those that contract", unfolded=False, contracting=False),
)  # the fastest first


def smooth(path: Path, feeds: Sequence[Feed], destination: Path) -> None:
    """Write a model whose MatMuls are fit for int8; in fp32 it computes the same.

    Args:
        path: the fp32 model.
        feeds: real inputs to see the activations' spread on.
        destination: the file to write.
    """
    strengths = _strengths(path, feeds, destination.with_name("probe.onnx"))
    model = _unfolded(path)
    readers = _matmuls_by_input(model)
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    scalers = {
        name: _move_strength(model, name, readers[name], weights, strengths[name])
        for name in readers
    }
    nodes = [
        placed
        for node in model.graph.node
        for placed in (node, *(scalers[name] for name in node.output if name in scalers))
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    _drop_unread_weights(model)
    add_pre_process_metadata(model)  # or each call advises a pass that changes nothing here
    save_onnx(model, destination)


def recipes_for(smoothed: Path) -> tuple[Recipe, ...]:
    """Return the recipes that differ for what `smooth` wrote."""
    model = onnx.load(str(smoothed), load_external_data=False)
    return RECIPES if any(map(_is_unfolded, model.graph.node)) else RECIPES[1:]


def quantise(smoothed: Path, recipe: Recipe, destination: Path) -> None:
    """Write the int8 model of a recipe from what `smooth` wrote."""
    quantize_dynamic(
        str(smoothed),
        str(destination),
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        nodes_to_exclude=_excluded(smoothed, recipe),
        use_external_data_format=split_off(file_bytes(smoothed)),
    )


def _unfolded(path: Path) -> Any:
    model = onnx.load(str(path))
    unfold_convolutions(model)
    _drop_unread_weights(model)
    return model


def _matmuls_by_input(model: Any) -> dict[str, list[Any]]:
    """Return the MatMuls with constant weights by the activation that they read."""
    constants = {tensor.name for tensor in model.graph.initializer}
    computed = {name for node in model.graph.node for name in node.output}
    readers: dict[str, list[Any]] = defaultdict(list)
    for node in model.graph.node:
        if node.op_type == "MatMul" and node.input[1] in constants and node.input[0] in computed:
            readers[node.input[0]].append(node)
    return readers


def _strengths(path: Path, feeds: Sequence[Feed], probe: Path) -> dict[str, FloatArray]:
    """Return the largest absolute value of each channel of each activation that MatMuls read.

    Args:
        path: the fp32 model.
        feeds: real inputs.
        probe: where to write a copy of the model that gives its activations out.
    """
    model = _unfolded(path)
    names = sorted(_matmuls_by_input(model))
    kind = onnx.TensorProto.FLOAT
    model.graph.output.extend(helper.make_tensor_value_info(name, kind, None) for name in names)
    save_onnx(model, probe)
    del model
    session = ort.InferenceSession(probe, providers=["CPUExecutionProvider"])
    strengths = {name: np.full(1, LEAST_STRENGTH, np.float32) for name in names}
    for feed in feeds:
        for name, values in zip(names, session.run(names, feed), strict=True):
            largest = np.abs(values).reshape(-1, values.shape[-1]).max(axis=0)
            strengths[name] = np.maximum(strengths[name], largest)
    return strengths


def _move_strength(
    model: Any, activation: str, readers: Sequence[Any], weights: Mapping[str, Any], x: FloatArray
) -> Any:
    """Scale the weights of an activation's readers; returns the node that divides it likewise."""
    arrays = [numpy_helper.to_array(weights[node.input[1]]) for node in readers]
    w = np.maximum(np.max([np.abs(array).max(axis=1) for array in arrays], axis=0), LEAST_STRENGTH)
    scale = (x**SMOOTHING / w ** (1 - SMOOTHING)).astype(np.float32)
    for node, array in zip(readers, arrays, strict=True):
        name = f"{node.name}.smoothed_weight"  # a weight may have other readers
        model.graph.initializer.append(numpy_helper.from_array(scale[:, None] * array, name))
        node.input[:] = [f"{activation}.smoothed", name]
    inverse = f"{activation}.smoothing"
    model.graph.initializer.append(numpy_helper.from_array(1 / scale, inverse))
    return helper.make_node(
        "Mul", [activation, inverse], [f"{activation}.smoothed"], name=f"{activation}.smooth"
    )


def _drop_unread_weights(model: Any) -> None:
    read = {name for node in model.graph.node for name in node.input}
    for tensor in [t for t in model.graph.initializer if t.name not in read]:
        model.graph.initializer.remove(tensor)


def _excluded(smoothed: Path, recipe: Recipe) -> list[str]:
    """Return the names of the MatMuls that a recipe leaves in fp32."""
    if recipe.unfolded and recipe.contracting:
        return []
    model = onnx.load(str(smoothed), load_external_data=False)
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "MatMul"
        and (
            (_is_unfolded(node) and not recipe.unfolded)
            or (_contracts(shapes.get(node.input[1], ())) and not recipe.contracting)
        )
    ]


def _is_unfolded(node: Any) -> bool:
    return node.op_type == "MatMul" and bool(node.name.endswith(UNFOLDED))


def _contracts(shape: Sequence[int]) -> bool:
    return len(shape) == 2 and shape[0] > shape[1]
