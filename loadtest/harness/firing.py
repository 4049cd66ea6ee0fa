"""Fires a plan, with everything that goes on beside it: faults, samples, the live view, Ctrl-C."""

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace

from loadtest.harness.cold import cold_start
from loadtest.harness.distributed import Cluster
from loadtest.harness.faults import Faults
from loadtest.harness.fleet import Fleet, Heard
from loadtest.harness.place import Place
from loadtest.harness.plan import Plan, share_of
from loadtest.harness.proxy import SlowProxy
from loadtest.harness.sampling import Counters, Sampler, cache_lookups, triton_counters
from loadtest.harness.scenario import Closed, Replay, Scenario
from loadtest.harness.worker.share import Share

LISTEN_S = 0.1  # between looks at faults, the live view and Ctrl-C
GIVE_UP_S = 10.0  # for the generator to end after it was stopped


@dataclass(frozen=True)
class Moment:
    """How far a run is: for the live view."""

    now_s: float  # from the measured part's start
    duration_s: float
    heard: Heard
    struck: tuple[str, ...]


Watch = Callable[[Moment], None]


@dataclass
class Stop:
    """Says that the user wants to end it: set by Ctrl-C."""

    asked: bool = False


@dataclass
class Fired:
    """What happened while requests were fired."""

    heard: Heard
    plan: Plan
    started_epoch_s: float = 0.0
    length_s: float = 0.0  # of the measured part as far as it went
    wall_s: float = 0.0
    most_in_flight: int = 0
    interrupted: bool = False
    faults: Faults | None = None
    sampler: Sampler | None = None
    counters: tuple[Counters, Counters] = field(default=({}, {}))
    cache: tuple[tuple[float, float] | None, tuple[float, float] | None] = (None, None)


def fire(
    scenario: Scenario,
    plan: Plan,
    items: tuple[object, ...],
    place: Place,
    watch: Watch,
    stop: Stop,
    cluster: str,
) -> Fired:
    """Fire the plan, with everything that goes on beside it."""
    with ExitStack() as around:
        slow = any(fault.kind == "slow_network" for fault in scenario.fault)
        proxy = around.enter_context(SlowProxy(place.url)) if slow else None
        url = proxy.url if proxy else place.url
        shares = _shares(scenario, plan, items, replace(place, url=url))
        faults = Faults(scenario.fault, place, proxy)
        fleet: Fleet | Cluster = Cluster(shares, cluster) if cluster else Fleet(shares)
        around.enter_context(fleet)
        fired = Fired(fleet.heard, plan, faults=faults)
        before = triton_counters(place), cache_lookups(place)
        warm_up_s = scenario.load.warm_up_s
        with cold_start(place) if scenario.cold else nullcontext():
            start_s = fleet.go(0.0 if isinstance(scenario.load, Replay) else warm_up_s)
            fired.started_epoch_s = time.time() + start_s - time.monotonic()
            clock = _clock_from(start_s)
            fired.sampler = around.enter_context(Sampler(place, fleet.pids, clock))
            with _released(faults, clock):
                _listen(fleet, fired, clock, watch, stop)
        after = triton_counters(place), cache_lookups(place)
        fired.counters, fired.cache = (before[0], after[0]), (before[1], after[1])
        fired.wall_s = max(clock(), 0.0) + warm_up_s
        return fired


def _clock_from(start_s: float) -> Callable[[], float]:
    return lambda: time.monotonic() - start_s


@contextmanager
def _released(faults: Faults, clock: Callable[[], float]) -> Iterator[None]:
    """Let go of whatever is stopped, however the run ends."""
    try:
        yield
    finally:
        faults.end(clock())


def _listen(
    fleet: Fleet | Cluster, fired: Fired, clock: Callable[[], float], watch: Watch, stop: Stop
) -> None:
    """Hear the generator out, do the faults, and show how far it is."""
    length_s, faults = fired.plan.duration_s, fired.faults
    assert faults is not None
    give_up_s = float("inf")
    while fleet.listen(LISTEN_S):
        now_s = clock()
        if now_s < length_s:
            faults.tick(now_s)
        fired.most_in_flight = max(fired.most_in_flight, sum(fleet.heard.in_flight.values()))
        struck = tuple(f"{s.fault.kind} {s.fault.model or s.fault.part}" for s in faults.struck)
        watch(Moment(now_s, length_s, fleet.heard, struck))
        if stop.asked and not fired.interrupted:
            fired.interrupted = True
            length_s = min(length_s, max(now_s, 0.0))
            give_up_s = now_s + GIVE_UP_S
            fleet.stop()
        if now_s > give_up_s:
            break
    fired.length_s = max(length_s, 1e-3)


def _shares(scenario: Scenario, plan: Plan, items: tuple[object, ...], place: Place) -> list[Share]:
    run_id = secrets.token_hex(4)
    count = scenario.processes
    closed = scenario.load if isinstance(scenario.load, Closed) else None
    shares = []
    for number in range(count):
        clients = 0 if closed is None else len(range(number, closed.clients, count))
        if closed is not None and clients == 0:
            continue  # more processes than clients
        shares.append(
            Share(
                number,
                scenario.target,
                items,  # type: ignore[arg-type]
                *share_of(plan, number, count),
                url=place.url,
                triton=place.triton,
                run_id=f"{run_id}-{number}",
                clients=clients,
                warm_up_s=closed.warm_up_s if closed else 0.0,
                duration_s=closed.duration_s if closed else 0.0,
            )
        )
    return shares
