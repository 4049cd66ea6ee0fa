"""The limit on what waits for a part: harmless while it keeps up, and the end of a pile-up."""

import asyncio
import heapq

import pytest

from gateway.congestion import MAX_CALLS, MIN_CALLS, SHRINK, TELLING_S, Begun, CallLimit
from gateway.errors import Unavailable

SERVICE_S = 0.010
CAPACITY_PER_S = 1 / SERVICE_S
DEADLINE_S = 0.085


class Clock:
    """Time that stands still until it is set."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def answered_in_time(
    per_s: float, seconds: float, limit: CallLimit | None, clock: Clock, stall: tuple[float, float]
) -> list[float]:
    """Send calls evenly to a part that takes `SERVICE_S` for each, one after the other.

    It works off all that was sent to it and does nothing during the stall, a start and an end.
    Returns when the calls began that were answered within `DEADLINE_S`.
    """
    good: list[float] = []
    free_s = 0.0
    events: list[tuple[float, int, str, Begun | None]] = []
    for number in range(round(per_s * seconds)):
        heapq.heappush(events, (number / per_s, number, "send", None))
    while events:
        clock.now_s, number, kind, begun = heapq.heappop(events)
        if kind == "send":
            begun = limit.begin_now(DEADLINE_S) if limit else None
            if limit and begun is None:
                continue
            free_s = max(free_s, clock.now_s)
            free_s = stall[1] if stall[0] <= free_s < stall[1] else free_s
            free_s += SERVICE_S
            in_time = free_s - clock.now_s <= DEADLINE_S
            heapq.heappush(events, (free_s, number, "answer" if in_time else "end", begun))
            if not in_time:
                heapq.heappush(events, (clock.now_s + DEADLINE_S, number, "give up", begun))
            else:
                good.append(clock.now_s)
        elif limit and begun and kind == "give up":
            limit.given_up(begun)
        elif limit:
            limit.end()
            if kind == "answer":
                limit.answered()
    return good


NO_STALL = (0.0, 0.0)


def test_what_a_part_keeps_up_with_is_never_refused() -> None:
    clock = Clock()
    limit = CallLimit("triton", clock)
    good = answered_in_time(0.9 * CAPACITY_PER_S, 20, limit, clock, NO_STALL)
    assert len(good) == round(0.9 * CAPACITY_PER_S * 20)
    assert limit.running == 0


@pytest.mark.parametrize("times", [1.1, 2, 5])
def test_more_than_a_part_can_do_leaves_most_of_what_it_can_do(times: float) -> None:
    per_s = times * CAPACITY_PER_S
    without = answered_in_time(per_s, 20, None, Clock(), NO_STALL)
    assert len(without) < 0.1 * CAPACITY_PER_S * 20  # nearly all of its work comes too late
    clock = Clock()
    good = answered_in_time(per_s, 20, CallLimit("triton", clock), clock, NO_STALL)
    assert len(good) > 0.8 * CAPACITY_PER_S * 20


def test_after_a_stall_answers_come_in_time_at_once() -> None:
    stall = (5.0, 15.0)
    without = answered_in_time(0.8 * CAPACITY_PER_S, 30, None, Clock(), stall)
    assert not [at_s for at_s in without if 5 < at_s < 29]
    clock = Clock()
    good = answered_in_time(0.8 * CAPACITY_PER_S, 30, CallLimit("milvus", clock), clock, stall)
    first_second = [at_s for at_s in good if 15 < at_s <= 16]
    assert len(first_second) > 0.5 * CAPACITY_PER_S
    assert len([at_s for at_s in good if 17 < at_s <= 30]) > 0.79 * CAPACITY_PER_S * 13


def test_many_calls_may_wait_for_a_part_that_was_never_late() -> None:
    limit = CallLimit("triton")
    for _ in range(MAX_CALLS):
        assert limit.begin_now(60)
    assert limit.begin_now(60) is None


def given_up(
    limit: CallLimit, clock: Clock, *, allowed_s: float, after_s: float, calls: int
) -> None:
    begun = [limit.begin_now(allowed_s) for _ in range(calls)]
    clock.now_s += after_s
    for one in begun:
        assert one
        limit.given_up(one)


@pytest.mark.parametrize(
    ("allowed_s", "after_s"),
    [(0.001, 0.001), (TELLING_S / 2, TELLING_S / 2), (1.0, 0.5)],
    ids=["one millisecond", "a short deadline", "the client left"],
)
def test_who_asks_for_the_impossible_or_leaves_holds_nobody_else_back(
    allowed_s: float, after_s: float
) -> None:
    clock = Clock()
    clock.now_s = 1.0
    limit = CallLimit("triton", clock)
    given_up(limit, clock, allowed_s=allowed_s, after_s=after_s, calls=50)
    assert limit.begin_now(1.0)


def test_calls_of_one_queue_shrink_the_limit_once() -> None:
    clock = Clock()
    limit = CallLimit("triton", clock)
    given_up(limit, clock, allowed_s=0.1, after_s=0.1, calls=20)
    for _ in range(20):
        limit.end()
    for _ in range(round(SHRINK * 20)):
        assert limit.begin_now(0.1)
    assert limit.begin_now(0.1) is None


def at_its_limit() -> CallLimit:
    """Return a limit that is at its least, with as many calls running as may always wait."""
    clock = Clock()
    limit = CallLimit("milvus", clock)
    for _ in range(10):
        given_up(limit, clock, allowed_s=0.1, after_s=0.1, calls=1)
        limit.end()
    for _ in range(MIN_CALLS):
        assert limit.begin_now(0.1)
    return limit


def test_some_calls_may_always_wait() -> None:
    assert at_its_limit().begin_now(0.1) is None


# ---- what is over the limit


def test_a_call_over_the_limit_goes_when_another_one_has_ended() -> None:
    async def one_after_the_other() -> list[int]:
        limit, order = at_its_limit(), list[int]()

        async def call(number: int) -> None:
            await limit.begin(60.0)
            order.append(number)

        calls = [asyncio.create_task(call(number)) for number in range(4)]
        await asyncio.sleep(0)
        assert order == []
        for ended in range(4):
            assert limit.running == MIN_CALLS
            limit.end()
            await calls[ended]
        return order

    assert asyncio.run(one_after_the_other()) == [0, 1, 2, 3]


def test_a_call_that_waits_in_vain_is_refused_and_was_never_sent() -> None:
    limit = at_its_limit()
    with pytest.raises(Unavailable, match="milvus is behind: 2 calls wait"):
        asyncio.run(limit.begin(0.1))
    assert limit.running == MIN_CALLS
    limit.end()
    assert limit.running == MIN_CALLS - 1
    assert limit.begin_now(0.1)


def test_who_stops_waiting_takes_no_turn() -> None:
    async def leave(after_its_turn: bool) -> CallLimit:
        limit = at_its_limit()
        call = asyncio.create_task(limit.begin(60.0))
        await asyncio.sleep(0)
        if after_its_turn:
            limit.end()  # whose turn comes before the task sees it
            call.cancel()
        else:
            call.cancel()
            await asyncio.sleep(0)
            limit.end()
        with pytest.raises(asyncio.CancelledError):
            await call
        return limit

    for after_its_turn in (True, False):
        assert asyncio.run(leave(after_its_turn)).running == MIN_CALLS - 1


def test_the_turn_of_a_loop_that_is_closed_goes_to_the_next_one() -> None:
    limit = at_its_limit()
    gone = asyncio.new_event_loop()
    left = gone.create_task(limit.begin(60.0))
    gone.run_until_complete(asyncio.sleep(0))
    gone.close()

    async def next_one() -> None:
        call = asyncio.create_task(limit.begin(60.0))
        await asyncio.sleep(0)
        limit.end()
        await call

    asyncio.run(next_one())
    assert limit.running == MIN_CALLS
    assert not left.done()
