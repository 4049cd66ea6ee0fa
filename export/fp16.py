"""fp32 ONNX to fp16 ONNX for GPUs, with the parts in fp32 that fp16 has no room for.

TensorRT 10 and later build strongly typed networks: a file's types are what the engine computes in,
so the mixture is made here. MatMuls and convolutions, where the time goes, become fp16. In fp32
stay normalisations, softmax and sums (`SENSITIVE`), all that stands before the first product of an
input of numbers (pixels and sound are normalised there) and after the last one (pooling and the
unit vector), and each node near a number that real inputs drive towards the end of fp16's range.
The file's inputs and outputs keep their types, so it fits the same contract.

The conversion itself is `onnxruntime.transformers.float16`, which comes with ONNX Runtime.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper
from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

from export.onnx import save_onnx

PRODUCTS = frozenset({"MatMul", "Gemm", "Conv"})
SENSITIVE = frozenset({
    "Exp", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "Log", "Pow",
    "Reciprocal", "ReduceL2", "ReduceMean", "ReduceSum", "Softmax", "Sqrt",
})  # fmt: skip
NUMBERS = frozenset({TensorProto.FLOAT, TensorProto.UINT8})  # types of inputs, unlike token ids
RANGE_SHARE = 0.25  # of fp16's largest number: what inputs that were not tried may add
LARGEST = RANGE_SHARE * float(np.finfo(np.float16).max)

Feed = Mapping[str, Any]


def halve(path: Path, feeds: Sequence[Feed], destination: Path) -> None:
    """Write the fp16 model of an fp32 one.

    Args:
        path: the fp32 model.
        feeds: real inputs, to see how large its numbers become.
        destination: the file to write.
    """
    model = onnx.load(str(path))
    typed = _with_types(path)
    del model.graph.value_info[:]
    model.graph.value_info.extend(typed.graph.value_info)
    _name_nodes(model)
    sizes = _largest_values(path, _activations(typed), feeds, destination.with_name("range.onnx"))
    kept = {*_edges(model), *_beyond(model, sizes)}
    halved = convert_float_to_float16(
        model,
        keep_io_types=True,
        disable_shape_infer=True,
        op_block_list=[*DEFAULT_OP_BLOCK_LIST, *SENSITIVE],
        node_block_list=sorted(kept),
    )
    del halved.graph.value_info[:]  # they were true of the fp32 model
    _join_casts(halved)
    _sort_nodes(halved)
    save_onnx(halved, destination)


def _with_types(path: Path) -> Any:
    """Return a model with the type of every activation; its weights may be missing."""
    return onnx.shape_inference.infer_shapes(onnx.load(str(path), load_external_data=False))


def _name_nodes(model: Any) -> None:
    for index, node in enumerate(model.graph.node):
        node.name = node.name or f"{node.op_type}_{index}"


def _activations(typed: Any) -> list[str]:
    """Return the names of the activations that are fp32."""
    return [
        value.name
        for value in typed.graph.value_info
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    ]


def _largest_values(
    path: Path, names: Sequence[str], feeds: Sequence[Feed], probe: Path
) -> dict[str, float]:
    """Return the largest absolute value of each activation on real inputs.

    Args:
        path: the fp32 model.
        names: of its activations.
        feeds: real inputs.
        probe: where to write a copy of the model that gives these values out.
    """
    model = onnx.load(str(path))
    for name in names:
        absolute, largest = f"{name}.absolute", f"{name}.largest"
        model.graph.node.append(helper.make_node("Abs", [name], [absolute]))
        model.graph.node.append(helper.make_node("ReduceMax", [absolute], [largest], keepdims=0))
        model.graph.output.append(helper.make_tensor_value_info(largest, TensorProto.FLOAT, []))
    save_onnx(model, probe)
    del model
    session = ort.InferenceSession(probe, providers=["CPUExecutionProvider"])
    wanted = [f"{name}.largest" for name in names]
    rows = np.stack([np.stack(session.run(wanted, feed)) for feed in feeds])
    return dict(zip(names, rows.max(axis=0).tolist(), strict=True))


def _beyond(model: Any, sizes: Mapping[str, float]) -> Iterator[str]:
    """Yield the names of the nodes that read or write a number over LARGEST."""
    for node in model.graph.node:
        if any(not sizes.get(name, 0) <= LARGEST for name in (*node.input, *node.output)):
            yield node.name


def _edges(model: Any) -> set[str]:
    """Return the names of the nodes before the first product of numbers and after the last one."""
    nodes = model.graph.node
    numbers = [v.name for v in model.graph.input if v.type.tensor_type.elem_type in NUMBERS]
    fed = _reached(nodes, numbers)
    products = [node for node in nodes if node.op_type in PRODUCTS]
    after_first = _reached(nodes, [name for node in products for name in node.output])
    before_last = _reached(
        [_reversed(node) for node in reversed(nodes)],
        [name for node in products for name in node.input],
    )
    of_product = {node.name for node in products}
    return ((fed - after_first) | (after_first - before_last)) - of_product


def _reached(nodes: Iterable[Any], sources: Iterable[str]) -> set[str]:
    """Return the names of the nodes that depend on tensors; the nodes are in the graph's order."""
    tensors, names = set(sources), set()
    for node in nodes:
        if tensors.intersection(node.input):
            tensors.update(node.output)
            names.add(node.name)
    return names


def _reversed(node: Any) -> Any:
    """Return a node with its inputs and outputs exchanged."""
    return helper.make_node(node.op_type, list(node.output), list(node.input), name=node.name)


def _join_casts(model: Any) -> None:
    """Take out each way from fp32 to fp16 and back: between nodes in fp32 nothing is rounded."""
    nodes = {node.output[0]: node for node in model.graph.node}  # the converter repeats casts
    halved = {
        node.output[0]: node.input[0]
        for node in nodes.values()
        if node.name.endswith("_cast_to_fp16_node") or node.name.startswith("graph_input_cast")
    }
    outputs = {value.name for value in model.graph.output}
    joined = {}
    for name, node in nodes.items():
        if _is_cast(node, TensorProto.FLOAT) and node.input[0] in halved:
            node.input[0] = halved[node.input[0]]
            if name not in outputs:
                joined[name] = node.input[0]
    kept = [node for name, node in nodes.items() if name not in joined]
    for node in kept:
        node.input[:] = [joined.get(name, name) for name in node.input]
    read = outputs.union(*(node.input for node in kept))
    kept = [node for node in kept if not halved.keys() & set(node.output) - read]
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _is_cast(node: Any, kind: int) -> bool:
    return node.op_type == "Cast" and any(a.name == "to" and a.i == kind for a in node.attribute)


def _sort_nodes(model: Any) -> None:
    """Put each node behind those whose outputs it reads: the converter appends its casts."""
    maker = {name: node.name for node in model.graph.node for name in node.output}
    nodes = {node.name: node for node in model.graph.node}
    graph = {name: {maker[i] for i in node.input if i in maker} for name, node in nodes.items()}
    ordered = [nodes[name] for name in TopologicalSorter(graph).static_order()]
    del model.graph.node[:]
    model.graph.node.extend(ordered)
