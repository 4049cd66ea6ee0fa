"""The generator's processes: started, told when to begin, and listened to."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Self

import numpy as np

from gateway.errors import Unavailable
from loadtest.harness.records import Records, no_records
from loadtest.harness.worker.fire import work
from loadtest.harness.worker.share import Batch, Broken, Done, Go, Message, Ready, Sample, Share

PREPARE_S = 120.0  # for all processes to import, connect and wait
LEAD_S = 0.3  # between the word to start and the first request
STOP_S = 5.0  # for a process to end; then it is killed


@dataclass
class Heard:
    """What the processes have said so far."""

    batches: list[Records] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    in_flight: dict[int, int] = field(default_factory=dict)
    done: dict[int, Done] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)

    @property
    def records(self) -> Records:
        """All records."""
        return np.concatenate(self.batches) if self.batches else no_records()

    @property
    def samples(self) -> list[Sample]:
        """Answers to compare with calm ones."""
        return [sample for done in self.done.values() for sample in done.samples]

    @property
    def made(self) -> list[str]:
        """Ids of the videos that were uploaded."""
        return [video for done in self.done.values() for video in done.made]

    def take(self, number: int, message: Message) -> None:
        """Note what the process of this number said."""
        match message:
            case Batch():
                self.batches.append(message.records)
                self.errors.update(message.errors)
                self.in_flight[number] = message.in_flight
            case Done():
                self.done[number] = message
            case Broken():
                self.broken.append(message.reason)


class Fleet:
    """The processes of one run; a context manager that leaves none behind.

    Raises:
        Unavailable: a process could not make ready, or a target of gRPC does not answer.
    """

    def __init__(self, shares: Sequence[Share]) -> None:
        self._shares = shares
        self._processes: dict[int, BaseProcess] = {}
        self._pipes: dict[Connection, int] = {}
        self.heard = Heard()

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("spawn")
        try:
            for share in self._shares:
                ours, theirs = context.Pipe()
                process = context.Process(target=work, args=(theirs,), daemon=True)
                process.start()
                theirs.close()
                self._processes[share.process] = process
                self._pipes[ours] = share.process
            self._hand_out()
            self._await_ready()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    @property
    def pids(self) -> Mapping[str, int]:
        """The processes' ids, by a name for reports."""
        return {f"generator-{n}": p.pid or 0 for n, p in self._processes.items()}

    def go(self, warm_up_s: float) -> float:
        """Start; returns the measured part's start on the monotonic clock."""
        start_s = time.monotonic() + LEAD_S + warm_up_s
        for pipe in self._pipes:
            pipe.send(Go(start_s))
        return start_s

    def listen(self, timeout_s: float) -> bool:
        """Take what was said within `timeout_s`; False when all have ended."""
        for pipe in wait(list(self._pipes), timeout_s):
            assert isinstance(pipe, Connection)
            self._take(pipe)
        return bool(self._pipes)

    def stop(self) -> None:
        """Tell all to send no more."""
        for pipe in self._pipes:
            try:
                pipe.send("stop")
            except (BrokenPipeError, ConnectionResetError):
                continue  # it has ended by itself; `listen` will see

    def _take(self, pipe: Connection) -> None:
        number = self._pipes[pipe]
        try:
            message: Message = pipe.recv()
        except (EOFError, ConnectionResetError):
            self._forget(pipe)
            if number not in self.heard.done:
                self.heard.broken.append(f"process {number} of the generator ended unexpectedly")
            return
        self.heard.take(number, message)
        if isinstance(message, Ready):
            self._ready.add(number)
        elif isinstance(message, Done | Broken):  # its last words
            self._forget(pipe)

    def _forget(self, pipe: Connection) -> None:
        del self._pipes[pipe]
        pipe.close()

    def _hand_out(self) -> None:
        """Give each process its share."""
        shares = {share.process: share for share in self._shares}
        for pipe, number in self._pipes.items():
            try:
                pipe.send(shares[number])
            except (BrokenPipeError, ConnectionResetError) as error:
                raise Unavailable(
                    "generator", f"process {number} of the generator could not start"
                ) from error

    def _await_ready(self) -> None:
        self._ready: set[int] = set()
        give_up_s = time.monotonic() + PREPARE_S
        while len(self._ready) < len(self._shares):
            self.listen(max(0.0, give_up_s - time.monotonic()))
            if self.heard.broken:
                raise Unavailable("generator", self.heard.broken[0])
            if time.monotonic() > give_up_s:
                raise Unavailable("generator", f"not ready after {PREPARE_S:g} s")

    def _end(self) -> None:
        for pipe in list(self._pipes):
            self._forget(pipe)
        for process in self._processes.values():
            process.join(STOP_S)
            if process.is_alive():
                process.kill()
                process.join()
            process.close()
        self._processes = {}
