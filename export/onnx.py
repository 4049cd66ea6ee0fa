"""Torch modules to ONNX files with dynamic batch and sequence axes."""

import warnings
from pathlib import Path

import onnx
import torch
from torch import nn

from ensembles.contracts import AUDIO_WINDOW_SAMPLES, Model, Tensor

OPSET = 18
EXAMPLE_BATCH = 2
EXAMPLE_LENGTHS = {"AUDIO": AUDIO_WINDOW_SAMPLES}  # of a variable axis, where 8 is too short
DTYPES = {"FP32": torch.float32, "INT64": torch.int64, "UINT8": torch.uint8}


def export_onnx(module: nn.Module, contract: Model, path: Path) -> None:
    """Write a module as the ONNX file of a contract.

    The module's arguments are the contract's inputs, in order; it returns its one output. The
    batch axis is `batch`; each variable axis is named after its length in the contract.

    Args:
        module: in evaluation mode.
        contract: names, dtypes and shapes.
        path: the file to write.
    """
    examples, axes = zip(*(_example(tensor) for tensor in contract.inputs), strict=True)
    names = [tensor.name for tensor in contract.inputs]
    (output,) = contract.outputs
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module.eval(),
            examples,
            str(path),
            input_names=names,
            output_names=[output.name],
            dynamic_axes={
                **dict(zip(names, axes, strict=True)),
                output.name: {0: "batch"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
    onnx.checker.check_model(str(path))


def _example(tensor: Tensor) -> tuple[torch.Tensor, dict[int, str]]:
    """Return an input to trace with, and the names of its variable axes."""
    lengths = [EXAMPLE_LENGTHS.get(tensor.name, 8) if axis == -1 else axis for axis in tensor.shape]
    example = torch.ones((EXAMPLE_BATCH, *lengths), dtype=DTYPES[tensor.dtype])
    variable = {
        index + 1: _axis_name(tensor.name) for index, axis in enumerate(tensor.shape) if axis == -1
    }
    return example, {0: "batch", **variable}


def _axis_name(tensor_name: str) -> str:
    """Inputs whose names begin alike share their variable axis: CLIP_IDS and CLIP_MASK."""
    return f"{tensor_name.partition('_')[0].lower()}_length"
