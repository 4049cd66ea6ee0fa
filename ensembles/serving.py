"""What the Python models share: parameters of their config, and refusals that keep their reason."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import triton_python_backend_utils as pb_utils

from gateway.errors import InvalidRequest, MediaRefused


def lower_priority(args: Mapping[str, str]) -> None:
    """Yield the processor to other models by the config's parameter `nice`, where it has one."""
    os.nice(int(parameter(args, "nice", "0")))


def parameter(args: Mapping[str, str], name: str, default: str) -> str:
    """Return a parameter of the config, or the default where it has none."""
    parameters = json.loads(args["model_config"]).get("parameters", {})
    return str(parameters.get(name, {"string_value": default})["string_value"])


def output_axes(args: Mapping[str, str], name: str) -> list[int]:
    """Return the shape of an output as the config has it."""
    outputs = json.loads(args["model_config"])["output"]
    return [int(axis) for tensor in outputs if tensor["name"] == name for axis in tensor["dims"]]


def answer_each(requests: Sequence[Any], answer: Callable[[Any], dict[str, Any]]) -> list[Any]:
    """Answer requests one by one; one that is refused does not touch the others."""
    return [_answer(request, answer) for request in requests]


def _answer(request: Any, answer: Callable[[Any], dict[str, Any]]) -> Any:
    try:
        outputs = answer(request)
    except MediaRefused as error:
        # The door to Triton (gateway/triton_wire.py) reads the reason back.
        return _refusal(f"[media:{error.reason}] {error}")
    except (InvalidRequest, ValueError) as error:
        return _refusal(str(error))
    return pb_utils.InferenceResponse([pb_utils.Tensor(name, a) for name, a in outputs.items()])


def _refusal(message: str) -> Any:
    return pb_utils.InferenceResponse(
        [], pb_utils.TritonError(message, pb_utils.TritonError.INVALID_ARG)
    )


def read(request: Any, name: str) -> Any:
    """Return an input of a request as an array."""
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy()
