"""The supervisor of one machine: starts the parts, restarts what crashes, leaves nothing behind.

Each part runs behind a keeper (`deploy/keeper.py`) and is looked after by one task:
start → until it answers → until it ends → back-off → start. Parts start side by side, except that a
part waits for those it comes `after`. They stop the other way round.
"""

import asyncio
import logging
import os
import signal
import textwrap
import time
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import msgspec

from deploy import keeper
from deploy.checks import NotReady
from deploy.logs import log_path, log_size, read_from, rotate
from deploy.process import Launch, Running, describe_exit, end_orphans, start, was_killed
from deploy.spec import DEFAULT_LIMITS, Limits, Observer, Part, backoff_s
from deploy.state import PartPhase, PartState, StackState, now, remove_state, write_state
from gateway.errors import Unavailable

log = logging.getLogger("pixserve.stack")

CHECK_EVERY_S = 0.1  # while a part starts
MAX_REASON_CHARS = 400  # of why a part ended


class Ended(Exception):  # noqa: N818 (says what happened)
    """A part has ended, or did not become ready in its time."""


class Stack:
    """The parts of one data folder under supervision.

    Args:
        parts: in the order in which they are shown.
        run_dir: folder of the state and the logs; one stack at a time holds it.
        profile: shown in the state.
        address: the gateway's URL, shown in the state.
        observer: told of every change of the state.
        limits: times.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        run_dir: Path,
        *,
        profile: str,
        address: str,
        observer: Observer = lambda _: None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._parts = {part.name: part for part in parts}
        self._run_dir = run_dir
        self._observer = observer
        self._limits = limits
        self._stopping = asyncio.Event()
        self._ready = {part.name: asyncio.Event() for part in parts}
        self._running: dict[str, Running] = {}
        self._spawning = asyncio.Lock()  # while it is held, every keeper is in `_running`
        self._others: Set[int] = frozenset()  # processes below this one that are not the stack's
        first = tuple(
            PartState(
                name=part.name,
                state="starting",
                address=part.address,
                metrics=part.metrics,
                since=now(),
                log=str(log_path(run_dir, part.name)) if part.launch else "",
            )
            for part in parts
        )
        self._state = StackState(
            pid=os.getpid(), profile=profile, address=address, since=now(), parts=first
        )

    async def run(self, lock: int) -> None:
        """Run until SIGTERM or SIGINT, then stop everything.

        Args:
            lock: descriptor of the folder's lock (`state.hold`), which the keepers share.

        Raises:
            Unavailable: a part ended before it was ready for the first time, or took too long.
        """
        keeper.adopt_orphans()
        self._others = keeper.below(os.getpid()).keys()
        with self._stopped_by_signals():
            rotate(self._run_dir, (part.name for part in self._parts.values() if part.launch))
            self._show(self._state)
            tasks = {
                name: asyncio.create_task(self._look_after(name, lock)) for name in self._ready
            }
            try:
                await self._until_stopped(list(tasks.values()))
            except Unavailable as error:
                self._show(msgspec.structs.replace(self._state, error=str(error)))
                raise
            finally:
                await self._stop_all(tasks)
                remove_state(self._run_dir)

    async def _until_stopped(self, tasks: list["asyncio.Task[None]"]) -> None:
        """Return when asked to stop; raises what ended a part's task."""
        stopping = asyncio.create_task(self._stopping.wait())
        ready = asyncio.create_task(self._until_ready_in_time())
        try:
            await asyncio.wait({stopping, ready, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
                await asyncio.wait({stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        finally:
            stopping.cancel()
            ready.cancel()
            await asyncio.gather(stopping, ready, return_exceptions=True)

    async def _until_ready_in_time(self) -> None:
        try:
            async with asyncio.timeout(self._limits.ready_s):
                await asyncio.gather(*(event.wait() for event in self._ready.values()))
        except TimeoutError:
            waiting = [part for part in self._state.parts if part.state == "starting"]
            late = "; ".join(f"{part.name} ({part.detail or 'starting'})" for part in waiting)
            raise Unavailable(
                waiting[0].name if waiting else "stack",
                f"not ready after {self._limits.ready_s:g} s: {late}; logs: "
                f"{self._run_dir / 'logs'}; allow more time with --timeout",
            ) from None

    async def _stop_all(self, tasks: dict[str, "asyncio.Task[None]"]) -> None:
        """Stop the parts that come after others first."""
        left = dict(tasks)
        while left:
            needed = {name for user in left for name in self._parts[user].after}
            wave = [left.pop(name) for name in tasks if name in left and name not in needed]
            for task in wave:
                task.cancel()
            await asyncio.gather(*wave, return_exceptions=True)

    @contextmanager
    def _stopped_by_signals(self) -> Iterator[None]:
        """Stop at the first SIGTERM or SIGINT, at once at the second."""

        def stop() -> None:
            if self._stopping.is_set():
                for running in self._running.values():
                    running.cut()
            self._stopping.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop)
        try:
            yield
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.remove_signal_handler(number)

    # ---- one part -------------------------------------------------------------------------------

    async def _look_after(self, name: str, lock: int) -> None:
        part = self._parts[name]
        for needed in part.after:
            await self._ready[needed].wait()
        if part.launch is None:
            await self._watch(part)
        else:
            await self._keep_running(part, part.launch, lock)

    async def _keep_running(self, part: Part, launch: Launch, lock: int) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            try:
                await self._run_once(part, launch, lock)
            except Ended as ended:
                if not self._ready[part.name].is_set():
                    self._set(part, "failed", detail=str(ended))
                    where = log_path(self._run_dir, part.name)
                    raise Unavailable(
                        part.name, f"{part.name} did not start: {ended}; its log: {where}"
                    ) from ended
                if time.monotonic() - started > self._limits.stable_s:
                    failures = 0
                wait_s = backoff_s(failures, self._limits)
                log.warning("%s ended: %s; restarting in %g s", part.name, ended, wait_s)
                self._set(part, "restarting", detail=str(ended))
            failures += 1
            await asyncio.sleep(wait_s)

    async def _run_once(self, part: Part, launch: Launch, lock: int) -> NoReturn:
        """Start a part and follow it to its end, which is raised as `Ended`."""
        path = log_path(self._run_dir, part.name)
        log_start = log_size(path)
        async with self._spawning:
            running = await start(launch, path, lock)
            self._running[part.name] = running
        try:
            self._set(part, "starting", pid=running.pid)
            version = await self._until_ready(part, running)
            if version is not None:
                self._set(part, "ready", pid=running.pid, version=version)
                self._ready[part.name].set()
            lost = await running.until_broken() if part.whole else ""
            if not lost:
                await asyncio.wait({running.ended})
        finally:
            await running.stop(part.stop_s)
            del self._running[part.name]
            await self._end_orphans(running.ended.result())
        if lost:
            raise Ended(f"it lost a process: {lost}")
        code = running.ended.result()
        reason = "" if was_killed(code) else part.explain(read_from(path, log_start))
        reason = textwrap.shorten(reason, MAX_REASON_CHARS, placeholder=" …")
        raise Ended(f"{describe_exit(code)}: {reason}" if reason else describe_exit(code))

    async def _end_orphans(self, code: int) -> None:
        """End what a keeper left that was killed."""
        if code < 0:
            async with self._spawning:
                end_orphans(self._others | {kept.keeper for kept in self._running.values()})

    async def _until_ready(self, part: Part, running: Running) -> str | None:
        """Return the part's version once it answers, None where it ended first."""
        reason = "starting"
        try:
            async with asyncio.timeout(part.start_s):
                while not running.ended.done():
                    try:
                        return await part.check()
                    except NotReady as not_ready:
                        reason = str(not_ready)
                        self._set(part, "starting", pid=running.pid, detail=reason)
                    await asyncio.wait({running.ended}, timeout=CHECK_EVERY_S)
        except TimeoutError:
            raise Ended(f"not ready after {part.start_s:g} s ({reason})") from None
        return None

    async def _watch(self, part: Part) -> None:
        """Check a part that runs elsewhere, again and again; it must answer at the start."""
        while True:
            try:
                version = await part.check()
                self._set(part, "external", version=version)
                self._ready[part.name].set()
            except NotReady as reason:
                self._set(part, "failed", detail=str(reason))
                if not self._ready[part.name].is_set():
                    raise Unavailable(
                        part.name,
                        f"{part.name} at {part.address} does not answer ({reason}): start it, or "
                        f"leave --{part.name} out and pixserve starts its own",
                    ) from reason
            await asyncio.sleep(self._limits.recheck_s)

    # ---- state ----------------------------------------------------------------------------------

    def _set(
        self,
        part: Part,
        state: PartPhase,
        *,
        pid: int | None = None,
        version: str = "",
        detail: str = "",
    ) -> None:
        """Put a part into a state, where that is news."""
        before = next(p for p in self._state.parts if p.name == part.name)
        changed = before.state != state
        after = msgspec.structs.replace(
            before,
            state=state,
            pid=pid,
            version=version or before.version,
            detail=detail,
            since=now() if changed else before.since,
            restarts=before.restarts + (changed and state == "restarting"),
        )
        if after == before:
            return
        if changed:
            log.info("%s: %s %s", part.name, state, detail)
        parts = tuple(after if p.name == part.name else p for p in self._state.parts)
        self._show(msgspec.structs.replace(self._state, parts=parts))

    def _show(self, state: StackState) -> None:
        self._state = state
        write_state(self._run_dir, state)
        self._observer(state)
