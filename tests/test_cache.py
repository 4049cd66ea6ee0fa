import asyncio
import tracemalloc
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.arrays import FloatArray
from gateway.search.cache import Cache, InFlight


def vector(number: int, width: int = 3) -> FloatArray:
    return np.full(width, number, np.float32)


def test_what_was_used_last_is_kept() -> None:
    cache: Cache[str] = Cache(2)
    cache.put("a", vector(1))
    cache.put("b", vector(2))
    assert cache.get("a") is not None
    cache.put("c", vector(3))

    assert (cache.get("a") == vector(1)).all()
    assert cache.get("b") is None
    assert (cache.get("c") == vector(3)).all()
    assert (cache.hits, cache.misses) == (3, 1)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(1, 3))), st.integers(0, 5))
def test_the_cache_never_grows_over_its_capacity(
    puts: list[tuple[int, int]], capacity: int
) -> None:
    cache: Cache[int] = Cache(capacity)
    last: OrderedDict[int, int] = OrderedDict()
    for number, (key, width) in enumerate(puts):
        cache.put(key, vector(number, width))
        last.pop(key, None)
        last[key] = number
        kept = list(last)[-capacity:] if capacity else []
        assert len(cache) == len(kept)
        for one in range(10):
            found = cache._places.get(one)  # a look-up would count as a use
            assert (found is not None) == (one in kept)
        if capacity:
            assert set(cache.get(key)) == {number}


def test_what_was_returned_stays_as_it_was_when_its_place_is_another_s() -> None:
    cache: Cache[str] = Cache(1)
    cache.put("a", vector(1))
    found = cache.get("a")
    cache.put("b", vector(2))
    assert set(found) == {1}


def test_memory_is_taken_with_the_first_vector_and_grows_no_more() -> None:
    cache: Cache[int] = Cache(500)
    cache.put(0, vector(0, 384))
    tracemalloc.start()
    for number in range(1, 500):
        cache.put(number, vector(number, 384))
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 500 * 384  # a quarter of the vectors themselves


@pytest.mark.anyio
async def test_what_runs_already_is_joined_and_forgotten_when_it_ends() -> None:
    calls: InFlight[int] = InFlight()
    go = asyncio.Event()
    made = 0

    async def make() -> int:
        nonlocal made
        number = made = made + 1
        await go.wait()
        return number

    tasks = [asyncio.create_task(calls.call("a", make)) for _ in range(3)]
    other = asyncio.create_task(calls.call("b", make))
    await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(*tasks) == [1, 1, 1]
    assert (await other, made, calls.joined) == (2, 2, 2)
    assert await calls.call("a", make) == 3


@pytest.mark.anyio
async def test_an_error_is_told_to_all_and_not_kept() -> None:
    calls: InFlight[int] = InFlight()
    errors = iter([ValueError("once")])

    async def make() -> int:
        for error in errors:
            raise error
        return 1

    first = await asyncio.gather(*(calls.call("a", make) for _ in range(2)), return_exceptions=True)
    assert [str(error) for error in first] == ["once", "once"]
    assert await calls.call("a", make) == 1


@pytest.mark.anyio
async def test_a_computation_goes_on_while_one_waits_and_ends_when_nobody_does() -> None:
    calls: InFlight[int] = InFlight()
    began, ended = asyncio.Event(), asyncio.Event()

    async def make() -> int:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return 0

    one, two = (asyncio.create_task(calls.call("a", make)) for _ in range(2))
    await began.wait()
    one.cancel()
    with pytest.raises(asyncio.CancelledError):
        await one
    assert not ended.is_set()
    two.cancel()
    with pytest.raises(asyncio.CancelledError):
        await two
    await ended.wait()
