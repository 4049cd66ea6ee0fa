"""One running process of the stack, behind its keeper."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from deploy import keeper
from gateway.errors import Unavailable

CUT_S = 5.0  # for a keeper whose lifeline is cut to kill all that it keeps
ORPHANS_S = 2.0  # for processes to vanish whose keeper was killed
ORPHANS_POLL_S = 0.01

# A part's libraries are not for its keeper, which may not even start with them.
LOADER_VARIABLES = ("LD_LIBRARY_PATH", "LD_PRELOAD")


@dataclass(frozen=True)
class Launch:
    """How a part is started."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    folder: Path  # the working directory
    nice: int = 0
    shared_memory: str = ""  # prefix of its regions' names, unique to this stack
    marks: tuple[Path, ...] = field(default=())  # files it writes when ready; removed around it


class Running:
    """A part's process and its keeper; made by `start`."""

    def __init__(
        self,
        launch: Launch,
        process: asyncio.subprocess.Process,
        lifeline: asyncio.StreamWriter,
        pid: int,
    ) -> None:
        self.pid = pid
        self._launch = launch
        self._process = process
        self._lifeline = lifeline
        self._exit = asyncio.create_task(process.wait())

    @property
    def keeper(self) -> int:
        """The keeper's pid."""
        return self._process.pid

    @property
    def ended(self) -> "asyncio.Task[int]":
        """Done when the part has ended and nothing of it is left; see `describe_exit`."""
        return self._exit

    async def until_broken(self) -> str:
        """Wait until the part ends, or one of the processes that it has started by now.

        Returns:
            The command of the process that ended while the part runs on; "" where the part ended.
        """
        loop = asyncio.get_running_loop()
        broken: asyncio.Future[str] = loop.create_future()
        with contextlib.ExitStack() as watched:
            for pid in keeper.children(self.pid):
                with contextlib.suppress(ProcessLookupError):  # it helped to start, and is gone
                    end = os.pidfd_open(pid)
                    watched.callback(os.close, end)
                    loop.add_reader(end, _settle, broken, _command(pid))
                    watched.callback(loop.remove_reader, end)
            ends: set[asyncio.Future[Any]] = {broken, self._exit}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        if self._exit.done() or not _runs(self.pid):  # its processes end with it
            return ""
        return broken.result()

    async def stop(self, stop_s: float) -> None:
        """Ask the part to end and make it end after `stop_s` seconds; leaves nothing of it."""
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):  # it ended just now
                self._process.send_signal(signal.SIGTERM)
            await asyncio.wait({self._exit}, timeout=stop_s)
        self.cut()
        await asyncio.wait({self._exit}, timeout=CUT_S)
        if not self._exit.done():
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
        await self._exit
        keeper.remove_shared_memory(self._launch.shared_memory)  # a killed keeper leaves it
        _remove_marks(self._launch)

    def cut(self) -> None:
        """End the part at once; the keeper kills all of it."""
        self._lifeline.close()


async def start(launch: Launch, log: Path, lock: int) -> Running:
    """Start a part behind a keeper.

    Args:
        launch: what to start.
        log: file that its output is appended to.
        lock: descriptor of the stack's lock, which the keeper holds as long as it lives.

    Raises:
        Unavailable: the keeper did not start.
    """
    starting = asyncio.create_task(_start(launch, log, lock))
    try:
        return await asyncio.shield(starting)
    except asyncio.CancelledError:
        await (await starting).stop(0)
        raise


async def _start(launch: Launch, log: Path, lock: int) -> Running:
    _remove_marks(launch)
    ours, theirs = socket.socketpair()
    with theirs, log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *_keeper_command(launch, lock),
            stdin=theirs.fileno(),
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            cwd=launch.folder,
            env={k: v for k, v in launch.environment.items() if k not in LOADER_VARIABLES},
            start_new_session=True,
        )
    reader, lifeline = await asyncio.open_connection(sock=ours)
    said = await reader.readline()
    running = Running(launch, process, lifeline, int(said) if said else process.pid)
    if not said:
        await running.stop(0)
        raise Unavailable(Path(launch.command[0]).name, f"its keeper did not start; see {log}")
    return running


def _settle(future: "asyncio.Future[str]", result: str) -> None:
    if not future.done():
        future.set_result(result)


def _command(pid: int) -> str:
    """Return the program of a process and its first argument."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join(words[:2]).strip()


def _runs(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        status = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return status.rpartition(")")[2].split()[0] not in "ZX"
    return False


def _keeper_command(launch: Launch, lock: int) -> tuple[str, ...]:
    options = [f"--nice={launch.nice}", f"--hold={lock}"]
    options += [f"--shared-memory={launch.shared_memory}"]
    for name in launch.environment.keys() & set(LOADER_VARIABLES):
        options.append(f"--set={name}={launch.environment[name]}")
    return (sys.executable, "-I", "-S", keeper.__file__, *options, "--", *launch.command)


def was_killed(code: int) -> bool:
    """Return whether a keeper's exit code says that someone killed the part, or the keeper."""
    return code < 0 or code - keeper.SIGNALLED in (signal.SIGKILL, signal.SIGTERM)


def describe_exit(code: int) -> str:
    """Return in words what a keeper's exit code says of its part."""
    if code < 0:
        return f"its keeper was killed by {_signal_name(-code)}"
    if code > keeper.SIGNALLED:
        return f"killed by {_signal_name(code - keeper.SIGNALLED)}"
    return f"exit code {code}"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def end_orphans(but: Collection[int]) -> None:
    """Kill and reap what killed keepers left to this process, whose children `but` are not that."""
    give_up = time.monotonic() + ORPHANS_S
    while (orphans := keeper.below(os.getpid(), but)) and time.monotonic() < give_up:
        for pid, parent in orphans.items():
            keeper.kill(pid)
            if parent == os.getpid():
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
        time.sleep(ORPHANS_POLL_S)


def _remove_marks(launch: Launch) -> None:
    for mark in launch.marks:
        mark.unlink(missing_ok=True)
