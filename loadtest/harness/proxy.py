"""A TCP proxy that can be made slow: the network between the generator and the gateway.

All requests of a run with such a fault pass through it from the start, so that its own cost, a few
tenths of a millisecond, is in all of them alike. Each piece of data waits `delay_s`, in order; what
it waits for does not hold up what was read before.
"""

import asyncio
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

READ_BYTES = 64 * 1024
IN_TRANSIT = 256  # pieces of one direction that wait at the same time; then the sender waits
START_S = 10.0
ACCEPT_TURNS = 5  # of the event loop, until an accepted connection has come to us


class SlowProxy:
    """A proxy on a free local port, in a thread of its own; `delay_s` may change at any time.

    Args:
        url: where it leads.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port or 80
        self.delay_s = 0.0
        self.url = ""
        self._ready = threading.Event()
        self._carrying: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="slow-proxy", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(START_S):
            raise RuntimeError(f"the proxy did not listen within {START_S:g} s")
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        self._loop.remove_reader(server.sockets[0].fileno())  # accept no more, but finish that
        for _ in range(ACCEPT_TURNS):
            await asyncio.sleep(0)
        server.close()
        for carrying, writer in self._carrying.items():
            carrying.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._carrying, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._carry(reader, writer))
        self._carrying[task] = writer
        task.add_done_callback(self._carrying.pop)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Carry one connection both ways until either end closes."""
        try:
            there, back = await asyncio.open_connection(self._host, self._port)
        except OSError:
            writer.transport.abort()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._one_way(reader, back))
                group.create_task(self._one_way(there, writer))
        except* OSError:
            pass  # a reset end; both are closed below
        finally:
            for end in (writer, back):
                end.transport.abort()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        transit: asyncio.Queue[tuple[float, bytes | None]] = asyncio.Queue(IN_TRANSIT)

        async def read() -> None:
            end: bytes | None = b""
            try:
                while data := await reader.read(READ_BYTES):
                    await transit.put((loop.time() + self.delay_s, data))
            except OSError:
                end = None  # a reset is passed on as one
            await transit.put((loop.time() + self.delay_s, end))

        reading = asyncio.create_task(read())
        try:
            while True:
                due_s, data = await transit.get()
                if due_s > loop.time():
                    await asyncio.sleep(due_s - loop.time())
                if data is None:
                    raise ConnectionResetError
                if not data:
                    break
                writer.write(data)
                await writer.drain()
            writer.write_eof()  # this way is over; the other one may go on
        finally:
            reading.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await reading
