"""Runs one part of the stack and lets nothing of it outlive the supervisor.

A script of its own, started by `deploy/process.py` for each part; it imports the standard library
alone, so it starts in a few milliseconds. Between the two lies a socket, the lifeline, as stdin:
the keeper writes the part's pid on it, and a lifeline that closes, because the supervisor cut it or
died in any way, ends the part at once.

The keeper adopts every process that the part starts (PR_SET_CHILD_SUBREAPER), also those that make
a session of their own, so when the part ends, none of them is left. Then it removes the part's
shared memory regions. If the keeper itself is killed, the part dies with it (PR_SET_PDEATHSIG).
"""

import argparse
import contextlib
import ctypes
import os
import select
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import FrameType

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 (where Linux keeps POSIX shared memory)
LIFELINE = 0  # the descriptor; stdin
CANNOT_START = 127  # the shell's exit code for a command that cannot be run
SIGNALLED = 128  # added to a signal's number in an exit code, as shells do

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main(arguments: Sequence[str]) -> int:
    """Run the command; returns its exit code, 128 + n when signal n killed it."""
    options = _parse(arguments)
    for descriptor in options.hold:
        os.set_inheritable(descriptor, False)  # held by the keeper, not by the part
    adopt_orphans()
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    variables = dict(pair.split("=", 1) for pair in options.set)
    child = _start(options.command, os.environ | variables, options.nice)
    _forward_signals_to(child)
    os.write(LIFELINE, f"{child}\n".encode())
    _wait_for_end_of(child)
    code = _end_all(child)
    remove_shared_memory(options.shared_memory)
    return code


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="keeper")
    parser.add_argument("--nice", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--hold", type=int, action="append", default=[])
    parser.add_argument("--shared-memory", default="")
    parser.add_argument("command", nargs="+")
    return parser.parse_args(arguments)


def _prctl(option: int, value: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"prctl({option}): {os.strerror(number)}")


def _start(command: list[str], environment: Mapping[str, str], nice: int) -> int:
    """Fork the part; in the child, nothing but what leads to its exec happens."""
    keeper = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != keeper:
            os._exit(CANNOT_START)
        os.nice(nice)
        os.dup2(os.open(os.devnull, os.O_RDONLY), LIFELINE)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)
        os.execvpe(command[0], command, environment)  # noqa: S606 (an argument list, no shell)
    except OSError as error:
        sys.stderr.write(f"cannot start {command[0]}: {error.strerror}\n")
        sys.stderr.flush()
    finally:
        os._exit(CANNOT_START)


def _forward_signals_to(child: int) -> None:
    def forward(number: int, _: FrameType | None) -> None:
        os.kill(child, number)  # it is reaped only after these signals are ignored

    for number in FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def _wait_for_end_of(child: int) -> None:
    """Return when the child has ended or the lifeline is cut."""
    ended = os.pidfd_open(child)
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.register(LIFELINE, select.POLLIN)
    poll.poll()
    os.close(ended)


def _end_all(child: int) -> int:
    """Kill and reap everything below the keeper; returns the exit code of `child`.

    Whatever is orphaned meanwhile becomes the keeper's own child, so each round sees it.
    """
    for number in FORWARDED:
        signal.signal(number, signal.SIG_IGN)
    code = 0
    while True:
        for pid in below(os.getpid()):
            kill(pid)
        try:
            pid, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return code
        if pid == child:
            code = os.waitstatus_to_exitcode(status)
            code = SIGNALLED - code if code < 0 else code


def adopt_orphans() -> None:
    """Become the parent of every process below this one whose own parent ends."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def below(process: int, but: Collection[int] = ()) -> dict[int, int]:
    """Return the processes below one, each with its parent, leaving out the trees under `but`."""
    found: dict[int, int] = {}
    level = {process}
    parents = {pid: parent for pid, parent in _parents().items() if pid not in but}
    while level:
        children = {pid: parent for pid, parent in parents.items() if parent in level}
        found |= children
        level = children.keys() - {process}
    return found


def children(process: int) -> list[int]:
    """Return the processes that one has started and that still run."""
    return [pid for pid, parent in _parents().items() if parent == process]


def _parents() -> dict[int, int]:
    """Return the parent of each process of this machine that can be seen."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # ended meanwhile
                status = (entry / "stat").read_text(errors="replace")
                # The command's name, in parentheses, may hold spaces and parentheses itself.
                found[int(entry.name)] = int(status.rpartition(")")[2].split()[1])
    return found


def kill(pid: int) -> None:
    """Kill a process, which may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def remove_shared_memory(prefix: str) -> None:
    """Remove the shared memory regions whose names begin with `prefix`; "" removes nothing."""
    if prefix:
        for region in SHARED_MEMORY.glob(f"{prefix}*"):
            region.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
