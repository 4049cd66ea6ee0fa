"""When requests are fired: rate profiles, and arrivals drawn from them. Pure, seeded.

A profile is a line of stages, each of a rate that is constant or rises or falls evenly. Its
integral Λ(t) is the expected number of arrivals until t. Arrivals are the times at which Λ reaches
given counts: whole numbers for even spacing; for a Poisson process as many uniform numbers as a
Poisson draw says (Lewis and Shedler 1979; the time-change of a unit-rate process).
"""

from collections.abc import Sequence
from typing import Literal

import msgspec
import numpy as np

from ensembles.arrays import Float64Array

Process = Literal["poisson", "even"]

MAX_ARRIVALS = 20_000_000  # of one run; each costs about 100 bytes of memory


class Stage(msgspec.Struct, frozen=True):
    """A time with one rate, or with a rate that changes evenly."""

    duration_s: float
    from_per_s: float
    to_per_s: float

    @property
    def expected(self) -> float:
        """The expected number of arrivals."""
        return self.duration_s * (self.from_per_s + self.to_per_s) / 2


def level(rate_per_s: float, duration_s: float) -> Stage:
    """Return a stage of one rate."""
    return Stage(duration_s, rate_per_s, rate_per_s)


def bursts(
    base_per_s: float, burst_per_s: float, every_s: float, burst_s: float, duration_s: float
) -> tuple[Stage, ...]:
    """Return a base rate with a burst at the end of each `every_s` seconds, cut at `duration_s`."""
    stages: list[Stage] = []
    left_s = duration_s
    while left_s > 0:
        for rate, wanted_s in ((base_per_s, every_s - burst_s), (burst_per_s, burst_s)):
            length_s = min(wanted_s, left_s)
            left_s -= length_s
            if length_s > 0:
                stages.append(level(rate, length_s))
    return tuple(stages)


def arrivals(stages: Sequence[Stage], process: Process, rng: np.random.Generator) -> Float64Array:
    """Return the times of all arrivals in seconds from the first stage's start, ascending.

    Args:
        stages: one after the other; rates ≥ 0, durations > 0.
        process: `poisson`, or `even`: one every 1/rate seconds, the first at 0.
        rng: for `poisson`.

    Raises:
        ValueError: there would be over MAX_ARRIVALS.
    """
    expected = sum(stage.expected for stage in stages)
    if expected > MAX_ARRIVALS:
        raise ValueError(f"{expected:.0f} requests are over the limit of {MAX_ARRIVALS}")
    if process == "even":
        counts = np.arange(np.ceil(expected - 1e-9), dtype=np.float64)
    else:
        counts = np.sort(rng.uniform(0.0, expected, rng.poisson(expected)))
    return times_at(stages, counts)


def times_at(stages: Sequence[Stage], counts: Float64Array) -> Float64Array:
    """Return when Λ reaches each of `counts`, ascending and below the profile's total.

    Within a stage of rate r₀ that changes by a each second, Λ(τ) = r₀τ + aτ²/2 = c, so
    τ = 2c / (r₀ + √(r₀² + 2ac)), the form that also holds for a = 0 and for r₀ = 0.
    """
    bounds = np.cumsum([0.0, *(stage.expected for stage in stages)])
    starts = np.cumsum([0.0, *(stage.duration_s for stage in stages)])
    which = np.clip(np.searchsorted(bounds, counts, side="right") - 1, 0, len(stages) - 1)
    rate = np.array([stage.from_per_s for stage in stages])[which]
    change = np.array([(s.to_per_s - s.from_per_s) / s.duration_s for s in stages])[which]
    inside = counts - bounds[which]
    root = np.sqrt(np.maximum(rate * rate + 2 * change * inside, 0.0))
    slope = rate + root
    offset = np.divide(2 * inside, slope, out=np.zeros_like(inside), where=slope > 0)
    return np.asarray(starts[which] + offset, dtype=np.float64)


def rates_per_s(stages: Sequence[Stage], seconds: int) -> list[float]:
    """Return the offered rate in each whole second from the profile's start, for plots."""
    edges = np.arange(seconds + 1, dtype=np.float64)
    starts = np.cumsum([0.0, *(stage.duration_s for stage in stages)])
    total = np.zeros(seconds + 1)
    for stage, start in zip(stages, starts, strict=False):
        tau = np.clip(edges - start, 0.0, stage.duration_s)
        change = (stage.to_per_s - stage.from_per_s) / stage.duration_s
        total += stage.from_per_s * tau + change * tau * tau / 2
    return [float(rate) for rate in np.diff(total)]


def replayed(times_s: Sequence[float], speed: float) -> Float64Array:
    """Return a recorded log's times from its first request on, `speed` times as fast.

    Raises:
        ValueError: there is none, or they do not rise.
    """
    times = np.asarray(times_s, dtype=np.float64)
    if times.size == 0:
        raise ValueError("the recording holds no request")
    if not np.isfinite(times).all() or (np.diff(times) < 0).any():
        raise ValueError("the recording's times must be finite and must not fall")
    return np.asarray((times - times[0]) / speed, dtype=np.float64)
