import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.search.cache import Cache, InFlight


def test_what_was_used_last_is_kept() -> None:
    cache: Cache[str, int] = Cache(2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert cache.get("a") == 1
    cache.put("c", 3)

    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (1, None, 3)
    assert (cache.hits, cache.misses) == (3, 1)


@given(st.lists(st.integers(0, 9)), st.integers(0, 5))
def test_the_cache_never_grows_over_its_capacity(keys: list[int], capacity: int) -> None:
    cache: Cache[int, int] = Cache(capacity)
    for key in keys:
        cache.put(key, key)
        assert len(cache) <= capacity
        assert cache.get(key) == (key if capacity else None)


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
