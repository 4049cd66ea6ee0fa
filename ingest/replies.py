"""Reads what a child of the sandbox answered, trusting none of it."""

import logging
import math
import os
from dataclasses import dataclass
from typing import NoReturn, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway.errors import InvalidRequest, MediaLimitExceeded, MediaRefused
from ingest.calls import (
    ARRAY_DTYPES,
    HEAD_LENGTH_BYTES,
    MAX_HEAD_BYTES,
    ArrayShape,
    Failure,
    Head,
)

log = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Reply:
    """What a decoding function returned."""

    value: msgspec.Raw
    arrays: tuple[NDArray[np.generic], ...]

    def value_as(self, kind: type[T]) -> T:
        """Return the value as a struct; raises `MediaRefused` where it is not one."""
        try:
            return msgspec.msgpack.decode(self.value, type=kind)
        except msgspec.MsgspecError as error:
            raise _garbage(str(error)) from error


def read_reply(fd: int) -> Reply:
    """Read and check a reply.

    Raises:
        MediaRefused: it makes no sense, or it is a refusal.
        MediaLimitExceeded: the function met a limit.
        InvalidRequest: the arguments were wrong.
    """
    size = os.fstat(fd).st_size
    head_bytes = int.from_bytes(_pread(fd, HEAD_LENGTH_BYTES, 0), "little")
    if head_bytes > min(MAX_HEAD_BYTES, size - HEAD_LENGTH_BYTES):
        raise _garbage(f"a head of {head_bytes} bytes in a reply of {size}")
    try:
        head = msgspec.msgpack.decode(_pread(fd, head_bytes, HEAD_LENGTH_BYTES), type=Head)
    except msgspec.MsgspecError as error:
        raise _garbage(str(error)) from error
    if head.failure is not None:
        _raise(head.failure)
    at = HEAD_LENGTH_BYTES + head_bytes
    arrays = []
    for expected in head.arrays:
        array = _read_array(fd, expected, at, size)
        arrays.append(array)
        at += array.nbytes
    return Reply(head.value, tuple(arrays))


def _read_array(fd: int, expected: ArrayShape, at: int, size: int) -> NDArray[np.generic]:
    """Read one array of a reply that is `size` bytes long, from `at`."""
    if expected.dtype not in ARRAY_DTYPES or any(length < 0 for length in expected.shape):
        raise _garbage(f"an array of {expected.dtype} {expected.shape}")
    nbytes = math.prod(expected.shape) * np.dtype(expected.dtype).itemsize
    if nbytes > size - at:
        raise _garbage(f"an array of {nbytes} bytes, {size - at} are there")
    array = np.empty(expected.shape, expected.dtype)
    left = memoryview(array.reshape(-1).view(np.uint8).data)
    while left:
        count = os.preadv(fd, [left], at)
        if count == 0:
            raise _garbage("it was cut short")
        left, at = left[count:], at + count
    return array


def _pread(fd: int, count: int, at: int) -> bytes:
    data = os.pread(fd, count, at)
    if len(data) != count:
        raise _garbage(f"{len(data)} bytes where {count} were expected")
    return data


def _raise(failure: Failure) -> NoReturn:
    """Raise the error that a child met."""
    match failure.kind:
        case "refused":
            raise MediaRefused(failure.reason, failure.message)
        case "limit":
            raise MediaLimitExceeded(failure.reason, failure.message)
        case "invalid":
            raise InvalidRequest(failure.message)
        case _:
            log.warning("decoder failed: %s", failure.message)
            raise MediaRefused("decoder_failed", "the decoder failed on this file")


def _garbage(detail: str) -> MediaRefused:
    log.warning("decoder reply is garbage: %s", detail)
    return MediaRefused("decoder_crashed", "the decoder's reply makes no sense")
