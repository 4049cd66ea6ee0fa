"""Runs a decoding function on hostile bytes in a limited child process.

Media decoders are large C programs that read whatever a stranger uploads. Each call here runs in a
child of its own, forked from a clean process that has given up network and file system
(`ingest.sandbox_child`). The child gets descriptors for its arguments, its source and its reply,
and limits of CPU time, wall time, memory, reply size and open files. Its reply is read as
msgpack and raw arrays, never unpickled, and checked. Whatever the child does, crash, hang, write
garbage, the caller gets a `MediaRefused` or a `MediaLimitExceeded` that names the limit.

One sandbox serves a whole process: calls from many threads run side by side.
"""

import atexit
import math
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec

from gateway.errors import (
    ConfigurationError,
    MediaLimitExceeded,
    MediaRefused,
    Unavailable,
)
from ingest.calls import (
    MAX_CALL_BYTES,
    Call,
    Enforced,
    FunctionName,
)
from ingest.replies import Reply, read_reply

MAX_CHILDREN = 16  # calls of one process at the same time; further ones wait for a place
START_S = 60.0  # for the process that forks to load its libraries, on a busy machine

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What one call may use."""

    cpu_s: float = 30.0  # rounded up to whole seconds
    wall_s: float = 60.0
    memory_bytes: int = 2 * 1024**3  # address space beyond what the libraries have mapped
    reply_bytes: int = 512 * 1024**2
    open_files: int = 16


class Sandbox:
    """The caller's side: starts the process that forks when it is first needed.

    Args:
        module: what that process runs: `ingest.sandbox_child`, or one with other functions.
    """

    def __init__(self, module: str = "ingest.sandbox_child") -> None:
        self._module = module
        self._lock = threading.Lock()
        self._places = threading.BoundedSemaphore(MAX_CHILDREN)
        self._server: _Server | None = None

    def run(
        self,
        function: FunctionName,
        source: bytes | memoryview | Path,
        arguments: object = None,
        limits: Limits | None = None,
    ) -> Reply:
        """Run one of the named functions on a source.

        Args:
            function: one of `ingest.sandbox_child.FUNCTIONS`.
            source: encoded bytes, or the path of a file, which is opened here for reading.
            arguments: anything that msgpack can say.
            limits: what the call may use; the defaults where None.

        Raises:
            MediaRefused: the source cannot be decoded, or crashed the decoder.
            MediaLimitExceeded: a limit was hit; `reason` names it.
            Unavailable: the process that forks died under the call; a retry starts a new one.
        """
        limits = limits or Limits()
        with self._places, ExitStack() as stack:
            files = (
                _memory_file(stack, "arguments", msgspec.msgpack.encode(arguments)),
                _source_file(stack, source),
                _memory_file(stack, "reply", b""),
            )
            wait_status = self._call(_call_of(function, limits), files, limits, stack)
            _check_end(wait_status, limits)
            return read_reply(files[2])

    def enforced(self) -> Enforced:
        """Return what the machine let the sandbox give up; starts it where it has not run."""
        with self._lock:
            return self._running().enforced

    def close(self) -> None:
        """End the process that forks, and every call that runs."""
        with self._lock:
            server, self._server = self._server, None
        if server is not None:
            server.close()

    def _call(self, call: Call, files: tuple[int, ...], limits: Limits, stack: ExitStack) -> int:
        """Hand a call over and wait for its child's end; returns the wait status."""
        mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        stack.enter_context(mine)
        with theirs, self._lock:
            server = self._running()
            message = msgspec.msgpack.encode(call)
            assert len(message) <= MAX_CALL_BYTES
            try:
                socket.send_fds(server.control, [message], [*files, theirs.fileno()])
            except OSError as error:
                raise _lost() from error
        mine.settimeout(limits.wall_s)
        try:
            told = mine.recv(16)
        except TimeoutError as error:  # closing our end makes the other side kill the child
            reason = f"decoding took over {limits.wall_s:g} s"
            raise MediaLimitExceeded("wall_time", reason) from error
        except OSError as error:
            raise _lost() from error
        if not told:
            raise _lost()
        wait_status: int = struct.unpack("<i", told)[0]
        return wait_status

    def _running(self) -> "_Server":
        """Return the process that forks, a new one where it died or belongs to our parent."""
        server = self._server
        if server is not None and server.owner == os.getpid() and server.process.poll() is None:
            return server
        if server is not None:
            server.close()
        self._server = _start_server(self._module)
        return self._server


SANDBOX = Sandbox()
atexit.register(SANDBOX.close)


def run_limited(
    function: FunctionName,
    source: bytes | memoryview | Path,
    arguments: object = None,
    limits: Limits | None = None,
) -> Reply:
    """Run a decoding function in this process's own sandbox: `Sandbox.run`."""
    return SANDBOX.run(function, source, arguments, limits)


# ---- the process that forks ---------------------------------------------------------------------


@dataclass(frozen=True)
class _Server:
    process: subprocess.Popen[bytes]
    control: socket.socket
    enforced: Enforced
    owner: int  # the process that started it

    def close(self) -> None:
        """Hang up, which ends it, and reap it where it is ours."""
        self.control.close()
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()


def _start_server(module: str) -> _Server:
    """Start the process that forks and wait until its libraries are loaded."""
    mine, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = [str(_interpreter()), "-P", "-m", module, str(theirs.fileno())]
    with theirs:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env=_environment(),
            cwd="/",
        )
    mine.settimeout(START_S)
    try:
        told = mine.recv(MAX_CALL_BYTES)
    except OSError:
        told = b""
    if not told:
        process.kill()
        code = process.wait()
        mine.close()
        raise ConfigurationError(
            f"the decoding sandbox did not start ({' '.join(command)}, exit {code}): "
            "its standard error says why"
        )
    return _Server(process, mine, msgspec.msgpack.decode(told, type=Enforced), os.getpid())


def _interpreter() -> Path:
    """Return a Python to run; inside Triton's stub process `sys.executable` need not be one."""
    candidates = (Path(sys.executable or "/"), Path(sys.prefix) / "bin" / "python3")
    fitting = (path for path in candidates if path.name.startswith("python") and path.is_file())
    found = next(fitting, None)
    if found is None:
        tried = ", ".join(map(str, candidates))
        raise ConfigurationError(f"no Python interpreter for the decoding sandbox among {tried}")
    return found


def _environment() -> dict[str, str]:
    """Return the variables it needs; none of ours, which may hold passwords."""
    ours = Path(__file__).resolve().parent.parent
    kept = {key: os.environ[key] for key in ("PATH", "LD_LIBRARY_PATH") if key in os.environ}
    paths = [str(ours), *(path or os.getcwd() for path in sys.path)]
    return kept | {
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OPENBLAS_NUM_THREADS": "1",  # a process that forks must have one thread
        "OMP_NUM_THREADS": "1",
        "MALLOC_ARENA_MAX": "2",  # each further arena would count 64 MB against the limit
    }


# ---- one call -----------------------------------------------------------------------------------


def _call_of(function: FunctionName, limits: Limits) -> Call:
    return Call(
        function=function,
        cpu_s=max(1, math.ceil(limits.cpu_s)),
        memory_bytes=limits.memory_bytes,
        reply_bytes=limits.reply_bytes,
        open_files=limits.open_files,
    )


def _memory_file(stack: ExitStack, name: str, data: bytes | memoryview) -> int:
    """Return an anonymous file in memory that holds the data."""
    fd = os.memfd_create(f"pixserve-{name}")
    stack.callback(os.close, fd)
    left = memoryview(data).cast("B")
    while left:
        left = left[os.write(fd, left) :]
    return fd


def _source_file(stack: ExitStack, source: bytes | memoryview | Path) -> int:
    if not isinstance(source, Path):
        return _memory_file(stack, "source", source)
    try:
        fd = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        message = f"{source.name} cannot be read: {error.strerror}"
        raise MediaRefused("unreadable", message) from error
    stack.callback(os.close, fd)
    return fd


def _check_end(wait_status: int, limits: Limits) -> None:
    """Raise where the child did not end by itself."""
    if os.WIFSIGNALED(wait_status):
        number = os.WTERMSIG(wait_status)
        if number == signal.SIGXCPU:
            message = f"decoding used over {limits.cpu_s:g} s of processor time"
            raise MediaLimitExceeded("cpu_time", message)
        if number == signal.SIGKILL:
            message = "the decoder was killed, as happens where the machine is out of memory"
            raise MediaLimitExceeded("memory", message)
        name = signal.Signals(number).name
        raise MediaRefused("decoder_crashed", f"the decoder crashed on this file ({name})")
    if os.waitstatus_to_exitcode(wait_status) != 0:
        raise MediaRefused("decoder_crashed", "the decoder ended without a reply")


def _lost() -> Unavailable:
    return Unavailable("sandbox", "the decoding sandbox ended under a call: try again")
