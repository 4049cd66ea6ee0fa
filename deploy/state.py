"""What a running stack says of itself: `run/state.json`, and the lock that there is only one.

The lock is a `flock` on the folder `run` itself, so it leaves no file and ends with its holders:
the supervisor and its keepers. A stack is over when its lock is free.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import msgspec

from gateway.errors import ConfigurationError, Conflict, NotFound

STATE_FILE = "state.json"
LOCK_WAIT_S = 5.0  # for the keepers of a supervisor that was killed to finish
LOCK_POLL_S = 0.05

PartPhase = Literal["starting", "ready", "restarting", "failed", "external"]


class PartState(msgspec.Struct, frozen=True, kw_only=True):
    """One part as `pixserve status` shows it."""

    name: str
    state: PartPhase
    address: str = ""
    metrics: str = ""  # URL of its Prometheus metrics
    version: str = ""
    pid: int | None = None
    since: str  # when it came into this state: RFC 3339, UTC
    restarts: int = 0
    detail: str = ""  # why it is not ready
    log: str = ""  # path


class StackState(msgspec.Struct, frozen=True, kw_only=True):
    """The whole stack of one data folder."""

    pid: int  # of the supervisor
    profile: str
    address: str  # of the gateway, as a URL
    since: str
    parts: tuple[PartState, ...] = ()
    error: str = ""  # why the stack is stopping

    @property
    def ready(self) -> bool:
        """Whether every part is."""
        return bool(self.parts) and all(p.state in ("ready", "external") for p in self.parts)

    def part(self, name: str) -> PartState:
        """Return a part by its name; raises `NotFound`."""
        for part in self.parts:
            if part.name == name:
                return part
        names = ", ".join(part.name for part in self.parts)
        raise NotFound(f"the stack has no part {name}: it has {names or 'none'}")


def now() -> str:
    """Return the time as RFC 3339 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def write_state(run_dir: Path, state: StackState) -> None:
    """Replace `state.json` in one step, so that no reader sees half of it."""
    fresh = run_dir / f".{STATE_FILE}.{os.getpid()}"
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(state), indent=2))
    fresh.replace(run_dir / STATE_FILE)


def read_state(run_dir: Path) -> StackState | None:
    """Return the state of the stack that runs on this folder; None where none does."""
    state = _written_state(run_dir)
    return state if state is not None and is_held(run_dir) else None


def remove_state(run_dir: Path) -> None:
    """Remove `state.json`."""
    (run_dir / STATE_FILE).unlink(missing_ok=True)


def _written_state(run_dir: Path) -> StackState | None:
    try:
        return msgspec.json.decode((run_dir / STATE_FILE).read_bytes(), type=StackState)
    except (FileNotFoundError, NotADirectoryError, msgspec.DecodeError):
        return None


def is_held(run_dir: Path) -> bool:
    """Return whether a stack, or what is left of a killed one, holds the folder."""
    try:
        descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


@contextmanager
def hold(run_dir: Path) -> Iterator[int]:
    """Make the folder and hold its lock; gives the descriptor, which keepers inherit.

    Raises:
        ConfigurationError: the folder cannot be written to.
        Conflict: another stack runs on it; the message names its pid.
    """
    make_writable(run_dir)
    descriptor = os.open(run_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _lock(descriptor, run_dir)
        remove_state(run_dir)  # that of a supervisor that was killed
        yield descriptor
    finally:
        os.close(descriptor)


def make_writable(folder: Path) -> None:
    """Make the folder; raises `ConfigurationError` where that, or writing to it, is refused."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / f".writable.{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to {folder}: {error.strerror}; choose a folder with --data-dir, or "
            "change its owner or permissions"
        ) from error


def _lock(descriptor: int, run_dir: Path) -> None:
    give_up = time.monotonic() + LOCK_WAIT_S
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        state = _written_state(run_dir)
        if state is None or _is_alive(state.pid) or time.monotonic() > give_up:
            pid = f"pid {state.pid}" if state else "starting or stopping"
            raise Conflict(
                f"a stack already runs on {run_dir.parent} ({pid}): stop it with "
                f"pixserve down --data-dir {run_dir.parent}"
            )
        time.sleep(LOCK_POLL_S)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
