"""Starting and stopping the local stack: in this process, or in one of its own in the background.

A background stack is `python -m deploy.launch`. It tells its starter how far it is by lines of JSON
(`StackState`) on a pipe until it is ready or has failed, so both ways look the same. Settings
travel in its variables, never on its command line, where other users could read a password.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from logging.handlers import RotatingFileHandler
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from deploy.logs import log_path
from deploy.parts import EXTERNAL, gateway_url, local_parts, part_environment, run_dir
from deploy.ports import require_free
from deploy.providers import require_provider
from deploy.spec import DEFAULT_LIMITS, Limits, Observer
from deploy.stack import Stack
from deploy.state import (
    StackState,
    hold,
    is_held,
    make_writable,
    now,
    read_state,
    remove_state,
)
from deploy.triton_wheel import find_libpython, find_wheel
from gateway.errors import ConfigurationError, PixserveError, Unavailable
from gateway.settings import Settings, settings_from_environment

MAX_STACK_LOG_BYTES = 1024**2  # then it becomes stack.log.1
READY_S = DEFAULT_LIMITS.ready_s
DOWN_S = 40.0  # for an orderly stop; then the supervisor is killed and its keepers kill the rest
KILLED_S = 10.0  # for the keepers to do that
HELD_POLL_S = 0.02
MILVUS_SCHEMES = frozenset({"http", "https", "tcp"})


@dataclass(frozen=True)
class Plan:
    """What `pixserve up` was asked for."""

    settings: Settings  # with an absolute data folder
    external: frozenset[str] = frozenset()  # of EXTERNAL: runs already, at its setting's address
    ready_s: float = READY_S


def check(plan: Plan) -> None:
    """Look for what would keep the stack from starting, before long work is done for it.

    Raises:
        ConfigurationError: an address is none, the data folder cannot be written to, the gateway's
            port is taken, or Triton's wheel, libpython or the target's provider is not installed.
        Conflict: a stack runs on the data folder already.
    """
    _check_addresses(plan)
    with hold(run_dir(plan.settings)):
        require_free(plan.settings.host, plan.settings.port)
        if plan.settings.rpc_port:
            require_free(plan.settings.host, plan.settings.rpc_port, "--rpc-port")
    if "triton" not in plan.external:
        find_wheel()
        find_libpython()
        require_provider(plan.settings.target)


def _check_addresses(plan: Plan) -> None:
    """Refuse an address of what already runs that no client could understand."""
    settings = plan.settings
    if "triton" in plan.external and not _is_host_and_port(f"//{settings.triton}"):
        raise ConfigurationError(f"--triton takes HOST:PORT (gRPC), got {settings.triton!r}")
    if "milvus" in plan.external:
        scheme = urlsplit(settings.milvus).scheme
        if scheme not in MILVUS_SCHEMES or not _is_host_and_port(settings.milvus):
            raise ConfigurationError("--milvus takes a URI like http://HOST:19530")
    try:
        make_url(settings.database_url)
    except (ArgumentError, ValueError) as error:  # its text shows the URL, and so its password
        raise ConfigurationError(
            "--database takes a SQLAlchemy URL, for example sqlite:////folder/catalogue.db or "
            "postgresql+psycopg://USER@HOST/NAME"
        ) from error


def _is_host_and_port(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return bool(parts.hostname and parts.port)
    except ValueError:
        return False


async def run(plan: Plan, observer: Observer) -> None:
    """Run the stack until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: the data folder cannot be written to, the gateway's port is taken, the
            profile is not exported, or something is not installed.
        Conflict: a stack runs on the data folder already.
        Unavailable: a part did not start.
    """
    folder = run_dir(plan.settings)
    with hold(folder) as lock, _logging_to(log_path(folder, "stack")):
        require_free(plan.settings.host, plan.settings.port)
        stack = Stack(
            local_parts(plan.settings, plan.external),
            folder,
            profile=plan.settings.profile,
            address=gateway_url(plan.settings),
            observer=observer,
            limits=Limits(ready_s=plan.ready_s),
        )
        await stack.run(lock)


def run_in_background(plan: Plan, observer: Observer) -> None:
    """Start the stack in a process of its own; returns when it is ready.

    Raises:
        PixserveError: it could not start; nothing of it is left.
    """
    folder = run_dir(plan.settings)
    make_writable(folder / "logs")
    reader, writer = os.pipe()
    with log_path(folder, "stack").open("ab") as output:
        process = subprocess.Popen(
            _background_command(plan, writer),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=(writer,),
            cwd=folder,
            env=part_environment(os.environ, plan.settings),
            start_new_session=True,
        )
    os.close(writer)
    try:
        _follow(reader, observer)
    except BaseException:
        process.terminate()  # also when the user gives up waiting
        process.wait()
        raise


def _background_command(plan: Plan, writer: int) -> Sequence[str]:
    options = [f"--report={writer}", f"--ready-s={plan.ready_s}"]
    options += [f"--external={name}" for name in sorted(plan.external)]
    return (sys.executable, "-m", "deploy.launch", *options)


def _follow(reader: int, observer: Observer) -> None:
    """Pass on what a background stack tells, until it is ready; raises what it failed with."""
    with os.fdopen(reader, "rb") as lines:
        for line in lines:
            state = msgspec.json.decode(line, type=StackState)
            if state.error:
                raise Unavailable("stack", state.error)
            observer(state)
            if state.ready:
                return
    raise Unavailable("stack", "the supervisor ended unexpectedly; see run/logs/stack.log")


def stop(folder: Path) -> bool:
    """Stop the stack that runs on this folder; returns whether one did.

    Raises:
        ConfigurationError: it belongs to another user, or cannot be stopped.
    """
    state = read_state(folder)
    if state is None:
        return False
    with contextlib.suppress(ProcessLookupError), _pidfd(state.pid) as supervisor:
        signal.pidfd_send_signal(supervisor, signal.SIGTERM)
        if not _ends(supervisor, DOWN_S):
            signal.pidfd_send_signal(supervisor, signal.SIGKILL)
    give_up = time.monotonic() + KILLED_S
    while is_held(folder):
        if time.monotonic() > give_up:
            raise ConfigurationError(f"parts of the stack on {folder.parent} cannot be ended")
        time.sleep(HELD_POLL_S)
    remove_state(folder)  # a killed supervisor leaves it
    return True


@contextlib.contextmanager
def _pidfd(pid: int) -> Iterator[int]:
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    except PermissionError as error:
        raise ConfigurationError(f"the stack (pid {pid}) belongs to another user") from error
    finally:
        os.close(descriptor)


def _ends(pidfd: int, wait_s: float) -> bool:
    return bool(select.select([pidfd], [], [], wait_s)[0])


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Write what the supervisor does to a file."""
    make_writable(path.parent)
    logger = logging.getLogger("pixserve.stack")
    handler = RotatingFileHandler(path, maxBytes=MAX_STACK_LOG_BYTES, backupCount=1)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


class _Report:
    """Sends states to the starter until one of them is final; the starter may be gone."""

    def __init__(self, descriptor: int) -> None:
        self._pipe = os.fdopen(descriptor, "wb")

    def __call__(self, state: StackState) -> None:
        if self._pipe.closed:
            return
        try:
            self._pipe.write(msgspec.json.encode(state) + b"\n")
            self._pipe.flush()
        except BrokenPipeError:
            self._close()
        if state.ready or state.error:
            self._close()

    def _close(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            self._pipe.close()


def main() -> None:
    """Run the stack in the background with the settings of the environment."""
    parser = argparse.ArgumentParser(prog="deploy.launch")
    parser.add_argument("--report", type=int, required=True)
    parser.add_argument("--ready-s", type=float, default=READY_S)
    parser.add_argument("--external", choices=EXTERNAL, action="append", default=[])
    options = parser.parse_args()
    os.set_inheritable(options.report, False)
    report = _Report(options.report)
    plan = Plan(settings_from_environment(), frozenset(options.external), options.ready_s)
    try:
        asyncio.run(run(plan, report))
    except PixserveError as error:
        report(
            StackState(
                pid=os.getpid(),
                profile=plan.settings.profile,
                address=gateway_url(plan.settings),
                since=now(),
                error=error.message,
            )
        )
        sys.exit(1)


if __name__ == "__main__":
    main()
