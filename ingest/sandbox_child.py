"""The far side of the sandbox: a small clean process that forks one limited child for each call.

`ingest.sandbox` starts it once. It loads the decoding libraries, gives up network and file system,
and then only receives descriptors: a call's arguments, its source and its reply as memory files or
files that the caller opened, and a socket for the exit status. It has one thread, so that forking
it is safe, and a call costs milliseconds instead of an interpreter's start.
"""

import ctypes
import errno
import gc
import importlib
import os
import resource
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NoReturn

import msgspec
import numpy as np
from av.error import FFmpegError
from av.video.frame import VideoFrame

from gateway.errors import InvalidRequest, MediaLimitExceeded, MediaRefused
from ingest.calls import (
    CALL_FDS,
    HEAD_LENGTH_BYTES,
    MAX_CALL_BYTES,
    ArrayShape,
    Call,
    Enforced,
    Failure,
    Head,
    Result,
    Source,
)

# The only functions that can be called, and where they live.
FUNCTIONS: Mapping[str, str] = {
    "decode_frames": "ingest.frames:frames_inside",
    "decode_windows": "ingest.sounds:windows_inside",
    "decode_image": "ingest.pictures:image_inside",
    "decode_sound": "ingest.sounds:sound_inside",
    "probe": "ingest.probe:probe_inside",
    "read_packets": "ingest.probe:packets_inside",
    "keyframe_looks": "ingest.keyframe_looks:keyframe_looks_inside",
    "looks_between": "ingest.looks:looks_between_inside",
    "all_looks": "ingest.looks:all_looks_inside",
    "onsets": "ingest.looks:onsets_inside",
    "cut_chunk": "ingest.remux:cut_inside",
    "read_subtitles": "ingest.transcripts.subtitles:subtitles_inside",
    "decode_stretch": "ingest.transcripts.stretches:stretch_inside",
}
FIRST_FD = 3  # after the standard streams
# Modules that the library loads only when a file needs them; no file can be opened by then.
PRELOADED = ("av.audio.codeccontext", "av.subtitles.codeccontext", "av.video.codeccontext")
MAX_MESSAGE_CHARS = 500  # of an error's text

PR_SET_PDEATHSIG = 1
PR_SET_NO_NEW_PRIVS = 38
CLONE_NEWUSER = 0x1000_0000
CLONE_NEWNET = 0x4000_0000
SYS_LANDLOCK_CREATE_RULESET = 444  # the same number on every architecture
SYS_LANDLOCK_RESTRICT_SELF = 446
LANDLOCK_FS_ALL = (1 << 13) - 1  # every access of Landlock's first version

_LIBC = ctypes.CDLL(None, use_errno=True)

Function = Callable[[Source, bytes], Result]
Functions = Mapping[str, Function]


@dataclass(frozen=True, eq=False)
class Child:
    """A running call."""

    pid: int
    pidfd: int
    status: socket.socket  # told the exit status; a hang-up means that the caller gave up


def main(control_fd: int, table: Mapping[str, str] = FUNCTIONS) -> None:
    """Load the functions, give up rights, say which, and serve until the caller is gone."""
    control = socket.socket(fileno=control_fd)
    for module in PRELOADED:
        importlib.import_module(module)
    VideoFrame(64, 64, "yuv420p").reformat(32, 32, "rgb24", threads=1)  # sets the scaler up
    functions = {name: _load(where) for name, where in table.items()}
    with open("/proc/self/statm", encoding="ascii") as statm:
        mapped_bytes = int(statm.read().split()[0]) * resource.getpagesize()
    enforced = Enforced(
        no_new_privileges=_LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        no_network=_leave_network(),
        threads=len(os.listdir("/proc/self/task")),
        no_files=_leave_file_system(),
        mapped_bytes=mapped_bytes,
    )
    gc.collect()
    gc.freeze()  # a child's collections then copy none of these pages
    control.send(msgspec.msgpack.encode(enforced))
    _serve(control, functions, mapped_bytes)


def _load(where: str) -> Function:
    module, _, name = where.partition(":")
    function: Function = getattr(importlib.import_module(module), name)
    return function


def _leave_network() -> bool:
    """Enter an empty network namespace, in a new user namespace where that is needed."""
    return any(_LIBC.unshare(flags) == 0 for flags in (CLONE_NEWNET, CLONE_NEWUSER | CLONE_NEWNET))


def _leave_file_system() -> bool:
    """Refuse every path from here on (Landlock); what is open stays usable."""
    attributes = struct.pack("<Q", LANDLOCK_FS_ALL)
    size = ctypes.c_size_t(len(attributes))
    ruleset: int = _LIBC.syscall(SYS_LANDLOCK_CREATE_RULESET, attributes, size, 0)
    if ruleset < 0:
        return False
    refused: int = _LIBC.syscall(SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)
    return refused == 0


# ---- the process that forks ---------------------------------------------------------------------


def _serve(control: socket.socket, functions: Functions, mapped_bytes: int) -> None:
    """Fork a child for each call and tell each caller how its child ended."""
    selector = selectors.DefaultSelector()
    selector.register(control, selectors.EVENT_READ)
    running: set[Child] = set()
    while True:
        for key, _ in selector.select():
            child: Child | None = key.data
            if child is None:
                message, fds, _, _ = socket.recv_fds(control, MAX_CALL_BYTES, CALL_FDS)
                if not message:  # the caller's process is gone, and its calls with it
                    return _kill(running)
                running.add(_start(selector, functions, mapped_bytes, message, fds))
            elif child in running and key.fd == child.pidfd:
                running.remove(child)
                _finish(selector, child)
            elif child in running:
                selector.unregister(child.status)
                os.kill(child.pid, signal.SIGKILL)


def _start(
    selector: selectors.BaseSelector,
    functions: Functions,
    mapped_bytes: int,
    message: bytes,
    fds: list[int],
) -> Child:
    """Fork the child of one call."""
    call = msgspec.msgpack.decode(message, type=Call)
    *files, status_fd = fds
    pid = os.fork()
    if pid == 0:
        _run(call, functions, files, mapped_bytes)
    for fd in files:
        os.close(fd)
    child = Child(pid, os.pidfd_open(pid), socket.socket(fileno=status_fd))
    selector.register(child.pidfd, selectors.EVENT_READ, child)
    selector.register(child.status, selectors.EVENT_READ, child)
    return child


def _finish(selector: selectors.BaseSelector, child: Child) -> None:
    """Reap a child and tell its caller, who may have gone, its wait status."""
    _, wait_status = os.waitpid(child.pid, 0)
    selector.unregister(child.pidfd)
    os.close(child.pidfd)
    if child.status in selector.get_map():
        selector.unregister(child.status)
        child.status.send(struct.pack("<i", wait_status), socket.MSG_NOSIGNAL)
    child.status.close()


def _kill(running: set[Child]) -> None:
    for child in running:
        os.kill(child.pid, signal.SIGKILL)


# ---- the child of one call ----------------------------------------------------------------------


def _run(call: Call, functions: Functions, files: list[int], mapped_bytes: int) -> NoReturn:
    """Limit this process, run the function, write its reply and end."""
    try:
        _limit(call, files, mapped_bytes)
        arguments_fd, source_fd, reply_fd = files
        result, failure = _attempt(
            functions[call.function], Source(source_fd), Source(arguments_fd).read()
        )
        try:
            _write(reply_fd, result, failure)
        except OSError as error:
            if error.errno != errno.EFBIG:
                raise
            os.ftruncate(reply_fd, 0)
            os.lseek(reply_fd, 0, os.SEEK_SET)
            message = f"the reply is over its limit of {call.reply_bytes} bytes"
            _write(reply_fd, Result(), Failure("limit", "reply_size", message))
        os._exit(0)
    finally:  # an error in the limits or the reply itself
        os._exit(1)


def _limit(call: Call, files: list[int], mapped_bytes: int) -> None:
    """Set the limits of one call and close every descriptor that is not its own."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.dup2(1, 2)  # a child says nothing on standard error
    low = FIRST_FD
    for fd in sorted(files):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
    address_space = mapped_bytes + call.memory_bytes
    for kind, soft, hard in (
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_NOFILE, call.open_files, call.open_files),
        (resource.RLIMIT_FSIZE, call.reply_bytes, call.reply_bytes),
        (resource.RLIMIT_CPU, call.cpu_s, call.cpu_s + 1),
        (resource.RLIMIT_AS, address_space, address_space),
    ):
        resource.setrlimit(kind, (soft, hard))


def _attempt(function: Function, source: Source, arguments: bytes) -> tuple[Result, Failure | None]:
    """Call the function; an error becomes the failure that the caller raises again."""
    try:
        return function(source, arguments), None
    except MediaLimitExceeded as error:
        failure = Failure("limit", error.reason, str(error))
    except MediaRefused as error:
        failure = Failure("refused", error.reason, str(error))
    except InvalidRequest as error:
        failure = Failure("invalid", "", str(error))
    except MemoryError:
        failure = Failure("limit", "memory", "decoding needs more memory than it may use")
    except FFmpegError as error:
        if error.errno == errno.ENOMEM:
            failure = Failure("limit", "memory", "decoding needs more memory than it may use")
        else:
            failure = Failure("refused", "undecodable", f"the decoder says: {error.strerror}")
    except Exception as error:  # whatever a hostile file provokes must reach the caller as words
        failure = Failure("unexpected", "", f"{type(error).__name__}: {error}"[:MAX_MESSAGE_CHARS])
    return Result(), failure


def _write(reply_fd: int, result: Result, failure: Failure | None) -> None:
    """Write the head's length, the head and the arrays."""
    arrays = [np.ascontiguousarray(array) for array in result.arrays]
    shapes = tuple(ArrayShape(array.dtype.name, array.shape) for array in arrays)
    value = msgspec.Raw(msgspec.msgpack.encode(result.value))
    head = msgspec.msgpack.encode(Head(value, shapes, failure))
    _write_all(reply_fd, memoryview(len(head).to_bytes(HEAD_LENGTH_BYTES, "little") + head))
    for array in arrays:
        _write_all(reply_fd, memoryview(array.reshape(-1).view(np.uint8).data))


def _write_all(fd: int, data: memoryview) -> None:
    while data:
        data = data[os.write(fd, data) :]


if __name__ == "__main__":
    main(int(sys.argv[1]))
