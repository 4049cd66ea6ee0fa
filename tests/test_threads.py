import asyncio
import threading

import pytest

from gateway import threads
from gateway.errors import Overloaded
from gateway.threads import Threads

pytestmark = pytest.mark.anyio


async def test_a_call_runs_beside_the_loop_and_returns() -> None:
    pool = Threads(1, "test")
    assert await pool.call(threading.current_thread) is not threading.current_thread()
    assert await pool.call(divmod, 7, 2) == (3, 1)
    pool.close()


async def test_an_error_of_the_call_is_raised() -> None:
    pool = Threads(1, "test")
    with pytest.raises(ZeroDivisionError):
        await pool.call(divmod, 1, 0)
    pool.close()


async def test_a_full_queue_refuses_and_recovers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MAX_WAITING", 2)
    pool, gate = Threads(1, "test"), threading.Event()
    waiting = [asyncio.create_task(pool.call(gate.wait)) for _ in range(2)]
    await asyncio.sleep(0)

    with pytest.raises(Overloaded, match="2 calls wait for the test"):
        await pool.call(gate.wait)
    gate.set()
    assert await asyncio.gather(*waiting) == [True, True]
    assert await pool.call(gate.wait)
    pool.close()
