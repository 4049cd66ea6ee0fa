"""One process of the generator: fires each request at its time, whatever the answers do.

The event loop is told the next request's time only; what is due when it wakes is fired at once, in
order. Latency counts from the scheduled start, so time that a request spent waiting for a late
generator or a full machine is in it; how late each was sent is noted beside.
"""

import asyncio
import gc
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import uvloop

from gateway.errors import PixserveError
from loadtest.harness.records import RECORD, Outcome
from loadtest.harness.worker.share import (
    MAX_IN_FLIGHT,
    NO_STAGES,
    TOO_MANY_IN_FLIGHT,
    Batch,
    Broken,
    Done,
    Go,
    Message,
    Ready,
    Sample,
    Share,
)
from loadtest.harness.worker.targets import Answer, Sender, failed, open_senders

NICE = -20  # where that is allowed: a generator that waits for the processor measures itself
REPORT_S = 0.2  # between batches of records
SAMPLE_EVERY = 20  # searches of which one is compared with a calm one
MAX_SAMPLES = 200  # of one process, of whole answers, and as many of degraded ones

HUNG = Answer(Outcome.HUNG)


def work(pipe: Connection) -> None:
    """Be a process of the generator: the target of `multiprocessing.Process`.

    Its share comes through the pipe: as an argument, one that is larger than a pipe's buffer would
    hang the parent for good where this process dies while it starts.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells when to stop
    with suppress(PermissionError):
        os.nice(NICE - os.nice(0))
    try:
        uvloop.run(_run(pipe.recv(), pipe))
    except PixserveError as error:
        pipe.send(Broken(error.message))
    except (BrokenPipeError, EOFError):
        pass  # the parent is gone


async def _run(share: Share, pipe: Connection) -> None:
    async with open_senders(share) as senders:
        gc.freeze()
        gc.disable()  # a collection would make requests late
        pipe.send(Ready())
        begin: Go = await _received(pipe)
        run = Firing(share, senders, begin.start_s, pipe.send)
        listen(pipe, run.stop)
        try:
            await run.run()
        finally:
            asyncio.get_running_loop().remove_reader(pipe.fileno())


def listen(pipe: Connection, heard: Callable[[], None]) -> None:
    """Call `heard` in the running loop whenever something is there to be received.

    libuv makes what it watches non-blocking; a send into a full pipe would then fail in place of
    waiting for a busy machine to read it, and with it the whole run.
    """
    asyncio.get_running_loop().add_reader(pipe.fileno(), heard)
    os.set_blocking(pipe.fileno(), True)


async def _received(pipe: Connection) -> Any:
    """Return the next message of the parent."""
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()
    listen(pipe, arrived.set)
    await arrived.wait()
    loop.remove_reader(pipe.fileno())
    return pipe.recv()


class Firing:
    """One run of one share.

    Args:
        share: what is fired.
        senders: one a target.
        start_s: the start of the measured part, on the monotonic clock.
        tell: takes the messages.
    """

    def __init__(self, share: Share, senders: Sequence[Sender], start_s: float, tell: Any) -> None:
        self._share = share
        self._senders = senders
        self._start_s = start_s
        self._tell = tell
        self._next = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._fired = asyncio.Event()  # all are sent, or it was stopped
        self._stopped = False
        self._notes: list[tuple[Any, ...]] = []
        self._errors: Counter[str] = Counter()
        self._samples: dict[bool, list[Sample]] = {False: [], True: []}
        self._made: list[str] = []
        self._searches = 0
        self._told = Answer(Outcome.OK)  # what replies tell of the models

    def stop(self) -> None:
        """Send no more, and give up what is in flight."""
        self._stopped = True
        self._fired.set()
        for task in self._tasks:
            task.cancel()

    async def run(self) -> None:
        """Fire everything, wait for every answer, and tell it all."""
        before = _cpu_s()
        reporting = asyncio.create_task(self._report())
        if self._share.clients:
            await self._closed_loop()
        else:
            await self._open_loop()
        while self._tasks:
            await asyncio.wait(self._tasks)
        reporting.cancel()
        with suppress(asyncio.CancelledError):
            await reporting
        self._flush()
        self._tell(
            Done(
                cpu_s=_cpu_s() - before,
                wall_s=time.monotonic() - self._start_s,
                samples=[*self._samples[False], *self._samples[True]],
                made=self._made,
                model_version=self._told.model_version,
                random_weights=self._told.random_weights,
            )
        )

    # ---- open loop ------------------------------------------------------------------------------

    async def _open_loop(self) -> None:
        self._wake()
        await self._fired.wait()

    def _wake(self) -> None:
        """Fire what is due, and sleep until the next one."""
        times, count = self._share.times_s, len(self._share.times_s)
        loop = asyncio.get_running_loop()
        now = time.monotonic() - self._start_s
        while self._next < count and times[self._next] <= now and not self._stopped:
            self._fire(self._next)
            self._next += 1
        if self._next < count and not self._stopped:
            wait_s = float(times[self._next]) + self._start_s - time.monotonic()
            loop.call_later(max(0.0, wait_s), self._wake)
        else:
            self._fired.set()

    def _fire(self, number: int) -> None:
        scheduled_s = float(self._share.times_s[number])
        if len(self._tasks) >= MAX_IN_FLIGHT:
            target = int(self._share.which[number])
            self._note(target, scheduled_s, 0.0, 0.0, failed(TOO_MANY_IN_FLIGHT))
            return
        task = asyncio.get_running_loop().create_task(self._one(number, scheduled_s))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ---- closed loop ----------------------------------------------------------------------------

    async def _closed_loop(self) -> None:
        await asyncio.sleep(self._start_s - self._share.warm_up_s - time.monotonic())
        for _ in range(self._share.clients):
            task = asyncio.create_task(self._client())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _client(self) -> None:
        """Ask, wait, ask again: what a server answers slowly is asked less often."""
        while not self._stopped:
            now = time.monotonic() - self._start_s
            if now >= self._share.duration_s:
                return
            number = self._next % len(self._share.which)
            self._next += 1
            await self._one(number, now)

    # ---- one request ----------------------------------------------------------------------------

    async def _one(self, number: int, scheduled_s: float) -> None:
        share = self._share
        index, item = int(share.which[number]), int(share.item[number])
        payloads = share.items[index]
        sent_s = time.monotonic() - self._start_s
        left_s = share.targets[index].timeout_s - (sent_s - scheduled_s)
        try:
            async with asyncio.timeout(left_s):
                answer = await self._senders[index](payloads[item % len(payloads)])
        except TimeoutError:
            answer = HUNG
        latency_s = time.monotonic() - self._start_s - scheduled_s
        self._note(index, scheduled_s, sent_s - scheduled_s, latency_s, answer)
        if answer.model_version:  # a search; an empty answer is one too
            self._sample(index, item, answer)

    def _note(
        self, target: int, scheduled_s: float, lateness_s: float, latency_s: float, answer: Answer
    ) -> None:
        self._notes.append(
            (
                target,
                answer.outcome,
                self._share.process,
                scheduled_s,
                lateness_s,
                latency_s,
                answer.stages_ms,
            )
        )
        if answer.reason and scheduled_s >= 0:
            self._errors[answer.reason] += 1
        if answer.made:
            self._made.append(answer.made)
        if answer.model_version:
            self._told = answer

    def _sample(self, target: int, item: int, answer: Answer) -> None:
        degraded = answer.outcome is Outcome.DEGRADED
        kept = self._samples[degraded]
        self._searches += 1
        if len(kept) < MAX_SAMPLES and (degraded or self._searches % SAMPLE_EVERY == 1):
            kept.append(Sample(target, item, degraded, answer.found))

    # ---- reports --------------------------------------------------------------------------------

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            self._flush()

    def _flush(self) -> None:
        notes, self._notes = self._notes, []
        errors, self._errors = self._errors, Counter()
        message: Message = Batch(np.array(notes, dtype=RECORD), dict(errors), len(self._tasks))
        self._tell(message)


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


assert len(NO_STAGES) == RECORD["stages_ms"].shape[0]
