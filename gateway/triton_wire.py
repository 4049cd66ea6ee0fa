"""KServe v2 as the door to Triton speaks it: arrays to messages and back, errors to ours."""

import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import grpc
import grpc.aio
import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2 as pb

from ensembles.arrays import FloatArray
from ensembles.contracts import Model
from gateway.errors import (
    DeadlineExceeded,
    InvalidRequest,
    MediaRefused,
    ModelFailed,
    Overloaded,
    PixserveError,
    TooLarge,
    Unavailable,
)

Role = Literal["query", "passage"]

MAX_REFUSAL_CHARS = 500
NUMPY_DTYPES: Mapping[str, type[np.generic]] = {
    "UINT8": np.uint8,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP32": np.float32,
    "FP64": np.float64,
}
# What an input does to a model: Python's exceptions and ONNX Runtime's, as the encoder backend
# returns them and as Triton tells those that a Python model lets escape. Not among them are
# exceptions of the machine, such as OSError, nor "Stub process … is not healthy".
MODEL_FAILURE = re.compile(
    r"(in ensemble '[^']*', )?(Failed to process the request\(s\) for model [^,]*, message: )?"
    r"(?P<kind>ValueError|TypeError|IndexError|KeyError|ArithmeticError|ZeroDivisionError|"
    r"OverflowError|Fail|InvalidArgument|RuntimeException|NotImplemented): (?P<message>[^\n]*)"
)
OUR_FAILURE = "ValueError"  # whose message is ours to show
OVER_SIZE = re.compile(r"message larger than max")  # gRPC's words, with RESOURCE_EXHAUSTED
OUT_OF_MEMORY = re.compile(r"alloc|out of memory", re.IGNORECASE)
MEDIA_REFUSAL = re.compile(r"\[media:(?P<reason>[a-z_]+)\] (?P<message>.*)", re.DOTALL)

log = logging.getLogger("pixserve.triton")

Array = NDArray[Any]


def build_request(contract: Model, inputs: Mapping[str, Array]) -> pb.ModelInferRequest:
    """Build the message for one call.

    Args:
        contract: of the ensemble.
        inputs: one array a tensor, with the batch axis where the ensemble has one; texts as
            arrays of `bytes` objects.

    Raises:
        InvalidRequest: a tensor has another dtype or number of axes than its contract.
    """
    request = pb.ModelInferRequest()
    for tensor in contract.inputs:
        array = inputs[tensor.name]
        axes = len(tensor.shape) + (contract.max_batch > 0)
        expected = NUMPY_DTYPES.get(tensor.dtype, np.object_)
        if array.ndim != axes or array.dtype != expected or array.size == 0:
            raise InvalidRequest(
                f"{contract.name}: {tensor.name} is {array.dtype} {array.shape}; expected "
                f"{np.dtype(expected)} with {axes} axes, none of them empty"
            )
        request.inputs.add(name=tensor.name, datatype=tensor.dtype, shape=array.shape)
        raw = _pack(array) if tensor.dtype == "BYTES" else np.ascontiguousarray(array).tobytes()
        request.raw_input_contents.append(raw)
    return request


def read_reply(reply: pb.ModelInferResponse) -> dict[str, FloatArray]:
    """Read the outputs, all float32, as read-only arrays over the message.

    Raises:
        Unavailable: shapes and contents do not fit, as of a model whose process has just died.
    """
    try:
        return {
            output.name: np.frombuffer(raw, dtype=np.float32).reshape(output.shape)
            for output, raw in zip(reply.outputs, reply.raw_output_contents, strict=True)
        }
    except ValueError as error:
        log.warning("Triton answered with a damaged reply: %s", error)
        raise Unavailable("triton", "Triton answered with a damaged reply; try again") from error


def translate(error: grpc.aio.AioRpcError) -> PixserveError:
    """Map an error of gRPC to one of ours; what names this machine goes to the log alone.

    Refused input is the caller's fault. INTERNAL is all that a Python model raises or returns
    without a code, and also a model's process that has died: only an exception that the same
    input would raise again is `ModelFailed`. All that is left is a server that cannot answer now.
    """
    details = (error.details() or "")[:MAX_REFUSAL_CHARS]
    refusal = MEDIA_REFUSAL.search(details)
    if refusal:
        return MediaRefused(refusal["reason"], refusal["message"])
    code = error.code()
    if code == grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("triton", "Triton answered too late")
    if code == grpc.StatusCode.INVALID_ARGUMENT:
        return InvalidRequest(details)
    if OVER_SIZE.search(details):
        return TooLarge(f"a message to or from Triton is over its limit: {details}")
    if code == grpc.StatusCode.RESOURCE_EXHAUSTED or "Exceeds maximum queue size" in details:
        return Overloaded("Triton's queue is full; try again later")
    log.warning("Triton: %s: %s", code.name, details)
    failure = MODEL_FAILURE.match(details)
    if code == grpc.StatusCode.INTERNAL and failure and not OUT_OF_MEMORY.search(details):
        reason = failure["message"] if failure["kind"] == OUR_FAILURE else failure["kind"]
        return ModelFailed("triton", f"a model failed on this input: {reason}")
    return Unavailable("triton", f"Triton cannot answer ({code.name}); try again later")


def text_inputs(texts: Sequence[str], role: Role) -> dict[str, Array]:
    """Return the inputs of n texts that are all queries or all passages, each (n, 1)."""
    return {"TEXT": strings(texts), "ROLE": strings([role] * len(texts))}


def strings(texts: Sequence[str]) -> Array:
    """Return texts as the (n, 1) array of bytes that an ensemble takes."""
    return np.array([[text.encode()] for text in texts], dtype=np.object_)


def _pack(texts: Array) -> bytes:
    """Serialise strings as KServe v2 does: a little-endian length before each."""
    return b"".join(len(text).to_bytes(4, "little") + text for text in texts.flat)
