"""What crosses the border of the sandbox: a call, its source, and its reply."""

import os
from dataclasses import dataclass
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

FunctionName = Literal[
    "decode_frames",
    "decode_windows",
    "decode_image",
    "decode_sound",
    "probe",
    "read_packets",
    "keyframe_looks",
    "looks_between",
    "all_looks",
    "onsets",
    "cut_chunk",
    "read_subtitles",
    "decode_stretch",
]

CALL_FDS = 4  # travel with a call: arguments, source, reply, status
MAX_CALL_BYTES = 4_096  # of a call's message; its arguments travel in a memory file
MAX_HEAD_BYTES = 64 * 1024 * 1024  # of a reply's head; arrays come after it
HEAD_LENGTH_BYTES = 4  # the head's length, little-endian
ARRAY_DTYPES = frozenset({"bool", "uint8", "int32", "int64", "float32", "float64", "uint64"})


class Call(msgspec.Struct, frozen=True):
    """One call: which function, and what its child may use."""

    function: str
    cpu_s: int
    memory_bytes: int
    reply_bytes: int
    open_files: int


class ArrayShape(msgspec.Struct, frozen=True):
    """One array of a reply, whose bytes follow the reply's head in order."""

    dtype: str
    shape: tuple[int, ...]


class Failure(msgspec.Struct, frozen=True):
    """Why a function gave no result."""

    kind: str  # refused, limit, invalid or unexpected
    reason: str
    message: str


class Head(msgspec.Struct, frozen=True):
    """The head of a reply."""

    value: msgspec.Raw
    arrays: tuple[ArrayShape, ...]
    failure: Failure | None


class Enforced(msgspec.Struct, frozen=True):
    """What the machine let the sandbox give up; limits of time and memory hold everywhere."""

    no_new_privileges: bool
    no_network: bool  # an empty network namespace; needs the right to make one
    no_files: bool  # Landlock, Linux 5.13 or newer: no path can be opened
    mapped_bytes: int  # address space before a call starts
    threads: int  # of the process that forks: 1


@dataclass(frozen=True)
class Result:
    """What a decoding function returns: something msgpack can say, and arrays."""

    value: object = None
    arrays: tuple[NDArray[np.generic], ...] = ()


@dataclass(frozen=True)
class Source:
    """What a decoding function reads: one open file or memory file, and nothing else."""

    fd: int

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return os.fstat(self.fd).st_size

    def open(self) -> "SourceFile":
        """Return a seekable binary file at its beginning."""
        return SourceFile(self.fd)

    def read(self) -> bytes:
        """Return all of it."""
        return os.pread(self.fd, self.size_bytes, 0)


class SourceFile:
    """A file over a descriptor, so that the decoding library opens no path of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._size = os.fstat(fd).st_size
        self._at = 0

    def read(self, size: int = -1) -> bytes:
        """Return up to `size` bytes from the position; all that is left where negative."""
        data = os.pread(self._fd, self._size - self._at if size < 0 else size, self._at)
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move the position and return it."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        """Return the position."""
        return self._at
