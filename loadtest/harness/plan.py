"""What a run fires: for each request when, at which target, with which payload. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import Float64Array, Int32Array, UInt8Array
from gateway.errors import ConfigurationError
from loadtest.harness.scenario import (
    Burst,
    Closed,
    Constant,
    EmbedQuery,
    Load,
    Queries,
    Ramp,
    Replay,
    Scenario,
    SearchText,
    Steps,
    Target,
)
from loadtest.harness.schedule import Stage, arrivals, bursts, level, replayed
from loadtest.queries import unique_queries

VOCABULARY_SEED = 23  # of zipf's texts: the same texts are popular in every run
CLOSED_REQUESTS = 50_000  # that a closed loop has payloads for; then they come again

ASKS_TEXT = SearchText | EmbedQuery


@dataclass(frozen=True)
class Recording:
    """A recorded log."""

    at_s: Sequence[float]
    queries: Sequence[str]


@dataclass(frozen=True)
class Plan:
    """All requests of a run, ascending by time."""

    times_s: Float64Array  # (n,) from the measured part's start; negative: warm-up
    which: UInt8Array  # (n,) index of the target
    item: Int32Array  # (n,) index of the target's payload
    texts: Mapping[int, Sequence[str]]  # by target: the payloads of those that ask texts
    stages: tuple[Stage, ...]  # the measured part's profile; empty for closed loops and replays
    duration_s: float  # of the measured part


def make_plan(
    scenario: Scenario,
    seed: int,
    lines: Mapping[int, Sequence[str]],
    recording: Recording | None = None,
) -> Plan:
    """Draw a run.

    Args:
        scenario: what is asked.
        seed: the same seed, the same run.
        lines: by target: the lines of its query file, where it has one.
        recording: of a replay.

    Raises:
        ConfigurationError: there would be no request, or too many.
    """
    rng = np.random.default_rng(seed)
    try:
        times_s, stages, length_s = _times(scenario.load, recording, rng)
    except ValueError as error:
        raise ConfigurationError(f"{scenario.name}: load: {error}") from error
    if times_s.size == 0 or times_s[-1] < 0:
        raise ConfigurationError(f"{scenario.name}: load: not one request falls into this time")
    which = _targets(scenario.target, len(times_s), rng)
    item = np.zeros(len(times_s), dtype=np.int32)
    texts: dict[int, Sequence[str]] = {}
    for index, target in enumerate(scenario.target):
        mine = np.flatnonzero(which == index)
        item[mine] = np.arange(len(mine))
        if isinstance(target, ASKS_TEXT):
            if recording is not None:
                texts[index], item[mine] = recording.queries, mine
            else:
                drawn = _texts(target.queries, len(mine), lines.get(index, ()), seed + index, rng)
                texts[index], item[mine] = drawn
    return Plan(times_s, which, item, texts, stages, length_s)


def stages_of(load: Load) -> tuple[Stage, ...]:
    """Return the measured part's profile; empty where it is none of rates."""
    match load:
        case Constant():
            return (level(load.rate_per_s, load.duration_s),)
        case Ramp():
            return (Stage(load.duration_s, load.from_per_s, load.to_per_s),)
        case Steps():
            return tuple(level(rate, load.step_s) for rate in load.rates_per_s)
        case Burst():
            return bursts(
                load.base_per_s, load.burst_per_s, load.every_s, load.burst_s, load.duration_s
            )
        case _:
            return ()


def _times(
    load: Load, recording: Recording | None, rng: np.random.Generator
) -> tuple[Float64Array, tuple[Stage, ...], float]:
    """Return when requests are due, the profile, and the measured part's length."""
    match load:
        case Closed():
            return np.zeros(CLOSED_REQUESTS), (), load.duration_s
        case Replay():
            if recording is None:
                raise ValueError("a replay needs its recording")
            times = replayed(recording.at_s, load.speed) - load.warm_up_s
            return times, (), max(1.0, float(np.ceil(times[-1] + 1e-9)))
        case _:
            stages = stages_of(load)
            first = level(stages[0].from_per_s, load.warm_up_s)
            profile = (first, *stages) if load.warm_up_s > 0 else stages
            times = arrivals(profile, load.arrivals, rng) - load.warm_up_s
            return times, stages, sum(stage.duration_s for stage in stages)


def _targets(targets: Sequence[Target], count: int, rng: np.random.Generator) -> UInt8Array:
    weights = np.array([target.weight for target in targets])
    return rng.choice(len(targets), count, p=weights / weights.sum()).astype(np.uint8)


def _texts(
    queries: Queries, count: int, lines: Sequence[str], seed: int, rng: np.random.Generator
) -> tuple[Sequence[str], NDArray[np.int64]]:
    """Return a target's texts, and which of them each of its `count` requests asks."""
    match queries.source:
        case "unique":
            return unique_queries(count, seed), np.arange(count)
        case "zipf":
            ranks = np.arange(1, queries.vocabulary + 1, dtype=np.float64)
            shares = ranks**-queries.exponent
            chosen = rng.choice(queries.vocabulary, count, p=shares / shares.sum())
            return unique_queries(queries.vocabulary, VOCABULARY_SEED), chosen
        case "file":
            return lines, np.arange(count) % len(lines)


def share_of(
    plan: Plan, process: int, processes: int
) -> tuple[Float64Array, UInt8Array, Int32Array]:
    """Return every `processes`-th request, from the `process`-th on: times, targets, payloads."""
    part = slice(process, None, processes)
    return plan.times_s[part], plan.which[part], plan.item[part]
