import asyncio

import pytest

from loadtest.bench_padded import WARM_UP, arrivals, open_loop


def test_arrivals_come_at_the_rate_that_is_asked_for_and_the_same_each_time():
    dues_s = arrivals(per_s=100, seconds=50)
    assert len(dues_s) == 5_000
    assert dues_s == sorted(dues_s) == arrivals(per_s=100, seconds=50)
    assert dues_s[-1] == pytest.approx(50, rel=0.05)


@pytest.mark.anyio
async def test_a_query_that_waits_behind_another_pays_for_the_wait():
    free, asked = asyncio.Lock(), []

    async def ask(text: str) -> None:
        asked.append(text)
        async with free:  # one after the other
            await asyncio.sleep(0.2 if text == "slow" else 0)

    warm_up = [f"warm {n}" for n in range(WARM_UP)]
    times_s = await open_loop(ask, [*warm_up, "slow", "quick"], [0.0, 0.05])
    assert asked == [*warm_up, "slow", "quick"]
    assert len(times_s) == 2
    assert times_s[1] >= 0.14  # it was due 0.05 s after the slow one had begun to take 0.2 s
