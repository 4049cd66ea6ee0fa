"""A Python-based Triton backend that runs one ONNX file by its model's contract.

It serves every encoder: a model says `backend: "encoder"` and brings its `model.onnx` alone.
Triton merges requests, and those of texts also across token buckets. What has one shape is
concatenated, run in slices of at most `run_batch` rows, and handed back request by request.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils

MODEL_FILE = "model.onnx"


class TritonPythonModel:
    """What Triton's Python backend loads, one object an instance."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the ONNX file and check it against the config.

        Parameters of the config: `providers` (ONNX Runtime's, comma-separated), `threads`
        (intra-op; 0 leaves the choice to ONNX Runtime), `run_batch` (rows), `nice`, `longest` (of
        a variable axis).

        Raises:
            TritonModelException: the file does not fit the contract; both sides are named.
        """
        config = json.loads(args["model_config"])
        parameters = {k: v["string_value"] for k, v in config.get("parameters", {}).items()}
        os.nice(int(parameters.get("nice", 0)))
        self._run_batch = int(parameters["run_batch"])
        self._longest = int(parameters.get("longest", sys.maxsize))
        self._inputs = [tensor["name"] for tensor in config["input"]]
        self._outputs = [tensor["name"] for tensor in config["output"]]
        folder = Path(args["model_repository"]) / args["model_version"]
        self._session = open_session(folder / MODEL_FILE, parameters)
        check_contract(self._session, config)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Run the rows of all requests of one shape together and answer each request."""
        feeds = [
            [pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in self._inputs]
            for request in requests
        ]
        responses: dict[int, Any] = {}
        for alike in same_shapes(feeds):
            answers = self._answer([feeds[index] for index in alike])
            responses |= dict(zip(alike, answers, strict=True))
        return [responses[index] for index in range(len(requests))]

    def _answer(self, feeds: Sequence[Sequence[Any]]) -> list[Any]:
        if (length := feeds[0][0].shape[-1]) > self._longest:
            name = self._inputs[0]
            message = f"{name} has {length} values a row; at most {self._longest} are taken"
            return [refusal(message, pb_utils.TritonError.INVALID_ARG) for _ in feeds]
        offsets = np.cumsum([0, *(len(feed[0]) for feed in feeds)])
        columns = [join(rows) for rows in zip(*feeds, strict=True)]
        try:
            outputs = self._run(columns, int(offsets[-1]))
        except Exception as error:
            if len(feeds) > 1:  # the requests that one was merged with must not fail with it
                return [response for feed in feeds for response in self._answer([feed])]
            return [refusal(f"{type(error).__name__}: {error}") for _ in feeds]
        return [self._response(outputs, start, stop) for start, stop in pairwise(offsets)]

    def _run(self, columns: list[Any], rows: int) -> list[Any]:
        slices = [
            self._session.run(
                self._outputs,
                {
                    name: column[start : start + self._run_batch]
                    for name, column in zip(self._inputs, columns, strict=True)
                },
            )
            for start in range(0, rows, self._run_batch)
        ]
        outputs = [join(parts) for parts in zip(*slices, strict=True)]
        if not all(np.isfinite(output).all() for output in outputs):
            raise ValueError("the encoder returned NaN or infinity; check its weights and input")
        return outputs

    def _response(self, outputs: list[Any], start: int, stop: int) -> Any:
        tensors = [
            pb_utils.Tensor(name, output[start:stop])
            for name, output in zip(self._outputs, outputs, strict=True)
        ]
        return pb_utils.InferenceResponse(output_tensors=tensors)


def same_shapes(feeds: Sequence[Sequence[Any]]) -> list[list[int]]:
    """Return the positions of the feeds whose arrays can be concatenated, a list each."""
    alike: dict[tuple[Any, ...], list[int]] = {}
    for position, feed in enumerate(feeds):
        alike.setdefault(tuple(array.shape[1:] for array in feed), []).append(position)
    return list(alike.values())


def join(parts: Sequence[Any]) -> Any:
    """Concatenate along the batch axis, without a copy where there is one part."""
    return np.concatenate(parts) if len(parts) > 1 else parts[0]


def refusal(message: str, *code: int) -> Any:
    """Return the response that carries an error, INTERNAL where no code is given."""
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, *code))


def open_session(path: Path, parameters: Mapping[str, str]) -> ort.InferenceSession:
    """Open an ONNX file with the config's providers and threads, without spinning threads.

    Raises:
        TritonModelException: the file is broken, or its first provider cannot be had here; ONNX
            Runtime by itself would fall back to the next one without a word.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = int(parameters.get("threads", 0))
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    providers = parameters["providers"].split(",")
    if "CUDAExecutionProvider" in providers:
        ort.preload_dlls()
    try:
        session = ort.InferenceSession(path, options, providers=providers)
    except Exception as error:
        raise pb_utils.TritonModelException(f"{path} cannot be loaded: {error}") from error
    if session.get_providers()[0] != providers[0]:
        raise pb_utils.TritonModelException(
            f"{path} would run on {session.get_providers()[0]}, but the config asks for "
            f"{providers[0]}: install the libraries of that one, or serve the target cpu"
        )
    return session


def check_contract(session: ort.InferenceSession, config: Mapping[str, Any]) -> None:
    """Refuse an ONNX file whose tensors are not those of the config.

    Raises:
        TritonModelException: names the tensor, what the config says and what the file has.
    """
    for kind, of_file in (("input", session.get_inputs()), ("output", session.get_outputs())):
        file_tensors = {node.name: (node.type, list(node.shape)) for node in of_file}
        for tensor in config[kind]:
            expected = (ONNX_TYPES[tensor["data_type"]], [int(axis) for axis in tensor["dims"]])
            found = file_tensors.pop(tensor["name"], None)
            if found is None or not fits(expected, found):
                raise pb_utils.TritonModelException(
                    f"{config['name']}: {kind} {tensor['name']} is {expected} in the contract "
                    f"but {found} in {MODEL_FILE}; export the model again"
                )
        if file_tensors:
            raise pb_utils.TritonModelException(
                f"{config['name']}: {MODEL_FILE} has {kind}s that the contract lacks: "
                f"{sorted(file_tensors)}"
            )


ONNX_TYPES = {
    "TYPE_FP32": "tensor(float)",
    "TYPE_INT64": "tensor(int64)",
    "TYPE_UINT8": "tensor(uint8)",
}


def fits(expected: tuple[str, list[int]], found: tuple[str, list[Any]]) -> bool:
    """Tell whether a file's tensor, with its batch axis, is the contract's, without it."""
    (dtype, axes), (file_dtype, (_, *file_axes)) = expected, found
    return (
        dtype == file_dtype
        and len(axes) == len(file_axes)
        and all(
            axis == file_axis or (axis == -1 and isinstance(file_axis, str))
            for axis, file_axis in zip(axes, file_axes, strict=True)
        )
    )
