"""Torch modules to ONNX files with dynamic batch and sequence axes."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from ensembles.contracts import AUDIO_WINDOW_SAMPLES, Model, Tensor

OPSET = 18
EXAMPLE_BATCH = 2
EXAMPLE_LENGTHS = {"AUDIO": AUDIO_WINDOW_SAMPLES}  # of a variable axis, where 8 is too short
FILE_LIMIT_BYTES = 1_900_000_000  # protobuf ends at 2 GiB: what is larger has its weights beside it
DATA_SUFFIX = ".data"
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
    with (
        warnings.catch_warnings(),
        torch.no_grad(),
        tempfile.TemporaryDirectory(dir=path.parent) as folder,
    ):
        warnings.simplefilter("ignore")
        traced = Path(folder) / path.name
        torch.onnx.export(
            module.eval(),
            examples,
            str(traced),
            input_names=names,
            output_names=[output.name],
            dynamic_axes={
                **dict(zip(names, axes, strict=True)),
                output.name: {0: "batch"},
            },
            opset_version=OPSET,
            dynamo=False,
        )
        _gather_files(traced, path)
    onnx.checker.check_model(str(path))


def save_onnx(model: Any, path: Path) -> None:
    """Write a model as one file, or as two where it is larger than FILE_LIMIT_BYTES."""
    weights = sum(len(tensor.raw_data) for tensor in model.graph.initializer)
    onnx.save(
        model,
        str(path),
        save_as_external_data=split_off(weights),
        location=path.name + DATA_SUFFIX,
    )


def split_off(size_bytes: int) -> bool:
    """Tell whether a model of this size keeps its weights in a file of their own."""
    return size_bytes > FILE_LIMIT_BYTES


def onnx_files(path: Path) -> list[Path]:
    """Return the files of a model: the graph, and its weights where they are split off."""
    return [file for file in (path, path.with_name(path.name + DATA_SUFFIX)) if file.exists()]


def file_bytes(path: Path) -> int:
    """Return the size of a model with its weights."""
    return sum(file.stat().st_size for file in onnx_files(path))


def _gather_files(traced: Path, path: Path) -> None:
    """Move an exported model; torch gives each weight of a large one a file of its own."""
    if len(list(traced.parent.iterdir())) == 1:
        traced.replace(path)
    else:
        save_onnx(onnx.load(str(traced)), path)


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
