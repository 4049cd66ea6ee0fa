"""A small server whose truth is known: the generator is checked against it.

It answers `GET /<number>` after the delay that its plan names for that request, and writes down on
the machine's monotonic clock when it answered. It is one process with one event loop; a planned
stall blocks that loop, as a garbage collection or a lock would: nothing is read or answered.
"""

import asyncio
import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import cast

import httptools
import numpy as np
import uvloop

from ensembles.arrays import Float64Array

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
START_S = 20.0  # for the process to listen
EMPTY: Float64Array = np.empty(0)


@dataclass(frozen=True)
class ServerPlan:
    """What the server does."""

    delays_s: Float64Array = field(default_factory=lambda: EMPTY)  # by request; others: none
    stall_after: int = -1  # the number of the request that blocks the server; -1: none
    stall_s: float = 0.0


class Truth:
    """The server's own log."""

    def __init__(self, port: int, pipe: Connection) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._pipe = pipe

    def answered_at_s(self) -> Float64Array:
        """Return when each request was answered, on the monotonic clock; NaN where it was not."""
        self._pipe.send("log")
        times: Float64Array = self._pipe.recv()
        return times


@contextmanager
def running_server(plan: ServerPlan) -> Iterator[Truth]:
    """Run the server in a process of its own."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        ours.send(plan)
        if not ours.poll(START_S):
            raise RuntimeError(f"the server did not listen within {START_S:g} s")
        yield Truth(int(ours.recv()), ours)
    finally:
        process.kill()
        process.join()
        ours.close()


class _Server:
    """The plan, and the log of what was answered."""

    def __init__(self, plan: ServerPlan) -> None:
        self.plan = plan
        self.answered_at_s = np.full(max(1, len(plan.delays_s)), np.nan)

    def delay_s(self, number: int) -> float:
        return float(self.plan.delays_s[number]) if number < len(self.plan.delays_s) else 0.0

    def note(self, number: int) -> None:
        if number < len(self.answered_at_s):
            self.answered_at_s[number] = time.monotonic()


class _Talk(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: _Server) -> None:
        self._server = server
        self._parser = httptools.HttpRequestParser(self)
        self._number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's are none by inheritance

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        digits = url.lstrip(b"/")
        self._number = int(digits) if digits.isdigit() else 0

    def on_message_complete(self) -> None:
        number, plan = self._number, self._server.plan
        if number == plan.stall_after:
            time.sleep(plan.stall_s)
        delay_s = self._server.delay_s(number)
        if delay_s > 0:
            asyncio.get_running_loop().call_later(delay_s, self._answer, number)
        else:
            self._answer(number)

    def _answer(self, number: int) -> None:
        self._server.note(number)
        if not self._transport.is_closing():
            self._transport.write(ANSWER)


def _serve(pipe: Connection) -> None:
    uvloop.run(_listen(pipe.recv(), pipe))


async def _listen(plan: ServerPlan, pipe: Connection) -> None:
    state = _Server(plan)
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(lambda: _Talk(state), "127.0.0.1", 0, backlog=4_096)

    def tell_log() -> None:
        pipe.recv()
        pipe.send(state.answered_at_s)

    pipe.send(listening.sockets[0].getsockname()[1])
    loop.add_reader(pipe.fileno(), tell_log)
    await asyncio.Event().wait()
