"""Convolutions over time as MatMuls, which int8 takes and convolutions of ONNX Runtime do not.

Half of what Wav2Vec2 computes is convolutions with a stride. Such a one reads, for each step, k
samples of all channels; laid side by side they are one row of a matrix: y = W · [x₀, x₁, … xₖ₋₁].
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx import helper, numpy_helper

UNFOLDED = ".unfolded"  # ends the names of the MatMuls made here
LEAST_ROWS = 64  # of the matrix; with fewer, as in the layer that reads samples, nothing is gained
END = np.iinfo(np.int64).max


def unfold_convolutions(model: Any) -> None:
    """Replace a model's 1-D convolutions without padding, dilation and groups, in place."""
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[Any] = []
    for node in model.graph.node:
        if _can_unfold(node, weights):
            nodes.extend(_unfolded(model, node, weights))
        else:
            nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _can_unfold(node: Any, weights: Mapping[str, Any]) -> bool:
    if node.op_type != "Conv" or node.input[1] not in weights:
        return False
    shape = weights[node.input[1]].dims  # outputs, channels, width
    told = _attributes(node)
    plain = (
        told.get("group", 1) == 1
        and told.get("auto_pad", b"NOTSET") == b"NOTSET"
        and not any(told.get("pads", ()))
        and set(told.get("dilations", (1,))) == {1}
    )
    return len(shape) == 3 and plain and shape[1] * shape[2] >= LEAST_ROWS


def _unfolded(model: Any, node: Any, weights: Mapping[str, Any]) -> list[Any]:
    """Return the nodes that compute what a convolution does, (batch, channels, time) as it is."""
    weight = numpy_helper.to_array(weights[node.input[1]])  # (outputs, channels, width)
    outputs, _, width = weight.shape
    name = f"{node.name}{UNFOLDED}"
    told = _attributes(node)
    constants = {
        "time": np.array([1]),
        "stride": np.array([told.get("strides", (1,))[0]]),
        "weight": np.ascontiguousarray(weight.transpose(2, 1, 0)).reshape(-1, outputs),
        **{f"from{tap}": np.array([tap]) for tap in range(width)},
        # each tap ends so that all are as long as the last, which ends with the input
        **{f"to{tap}": np.array([tap - width + 1 or END]) for tap in range(width)},
    }
    model.graph.initializer.extend(
        numpy_helper.from_array(array, f"{name}.{key}") for key, array in constants.items()
    )

    def make(kind: str, inputs: list[str], output: str, **attributes: object) -> Any:
        return helper.make_node(kind, inputs, [output], name=output, **attributes)

    taps = [f"{name}.tap{tap}" for tap in range(width)]
    steps = f"{name}.steps"
    cut = [f"{name}.time", f"{name}.stride"]
    slices = [
        make("Slice", [steps, f"{name}.from{tap}", f"{name}.to{tap}", *cut], taps[tap])
        for tap in range(width)
    ]
    nodes = [
        make("Transpose", [node.input[0]], steps, perm=(0, 2, 1)),  # (batch, time, channels)
        *slices,
        make("Concat", taps, f"{name}.rows", axis=2),
        make("MatMul", [f"{name}.rows", f"{name}.weight"], name),
    ]
    if len(node.input) > 2:
        nodes.append(make("Add", [name, node.input[2]], f"{name}.sum"))
    last = nodes[-1].output[0]
    back = helper.make_node("Transpose", [last], node.output, name=f"{name}.back", perm=(0, 2, 1))
    return [*nodes, back]


def _attributes(node: Any) -> dict[str, Any]:
    return {one.name: helper.get_attribute_value(one) for one in node.attribute}
