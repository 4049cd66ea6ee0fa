"""Arrivals follow their profile, exactly or by chance, and the same seed gives the same ones."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.harness.schedule import (
    MAX_ARRIVALS,
    Stage,
    arrivals,
    bursts,
    level,
    rates_per_s,
    replayed,
    times_at,
)

stages = st.lists(
    st.builds(Stage, st.floats(0.5, 20), st.floats(0.1, 50), st.floats(0.1, 50)),
    min_size=1,
    max_size=4,
)


def rng(seed=1):
    return np.random.default_rng(seed)


def expected_until(profile, t):
    total = 0.0
    for stage in profile:
        tau = min(max(t, 0.0), stage.duration_s)
        change = (stage.to_per_s - stage.from_per_s) / stage.duration_s
        total += stage.from_per_s * tau + change * tau * tau / 2
        t -= stage.duration_s
    return total


@given(stages)
def test_the_nth_even_arrival_is_where_the_profile_has_promised_n(profile):
    times = arrivals(profile, "even", rng())
    assert (np.diff(times) >= 0).all()
    for number in {0, len(times) // 2, len(times) - 1}:
        assert expected_until(profile, times[number]) == pytest.approx(number, abs=1e-6)


@given(stages, st.integers(0, 2**32))
def test_poisson_arrivals_rise_and_stay_inside(profile, seed):
    times = arrivals(profile, "poisson", rng(seed))
    assert (np.diff(times) >= 0).all()
    assert all(0 <= t <= sum(s.duration_s for s in profile) + 1e-9 for t in times)


def test_the_same_seed_gives_the_same_arrivals():
    profile = [level(50, 10)]
    same = arrivals(profile, "poisson", rng(7)), arrivals(profile, "poisson", rng(7))
    assert (same[0] == same[1]).all()
    assert len(same[0]) != len(arrivals(profile, "poisson", rng(8)))


def test_poisson_gaps_are_exponential():
    gaps = np.diff(arrivals([level(1_000, 60)], "poisson", rng()))
    assert gaps.mean() == pytest.approx(1 / 1_000, rel=0.02)
    assert gaps.std() == pytest.approx(gaps.mean(), rel=0.02)
    assert (gaps > 3 * gaps.mean()).mean() == pytest.approx(np.exp(-3), rel=0.1)


def test_a_ramp_has_most_of_its_arrivals_at_its_fast_end():
    times = arrivals([Stage(10, 0.0, 100)], "poisson", rng())
    assert len(times) == pytest.approx(500, rel=0.2)
    assert (times > 10 / np.sqrt(2)).mean() == pytest.approx(0.5, abs=0.08)


def test_a_ramp_from_nothing_starts_without_a_division_by_zero():
    assert times_at([Stage(10, 0.0, 10)], np.array([0.0, 50.0])) == pytest.approx([0.0, 10.0])


def test_bursts_come_at_the_end_of_each_period_and_the_last_one_is_cut():
    profile = bursts(10, 100, every_s=5, burst_s=1, duration_s=9.5)
    assert [(s.duration_s, s.from_per_s) for s in profile] == [
        (4, 10),
        (1, 100),
        (4, 10),
        (0.5, 100),
    ]


@given(stages)
def test_the_rates_of_all_seconds_sum_to_the_profile(profile):
    seconds = int(np.ceil(sum(s.duration_s for s in profile)))
    assert sum(rates_per_s(profile, seconds)) == pytest.approx(sum(s.expected for s in profile))


def test_a_replay_keeps_its_gaps_and_may_be_faster():
    assert replayed([100.0, 100.5, 103.0], 2.0) == pytest.approx([0.0, 0.25, 1.5])


@pytest.mark.parametrize("times", [[], [1.0, 0.5], [0.0, float("nan")]])
def test_a_recording_whose_times_make_no_sense_is_refused(times):
    with pytest.raises(ValueError, match="recording"):
        replayed(times, 1.0)


def test_more_arrivals_than_memory_are_refused():
    with pytest.raises(ValueError, match="over the limit"):
        arrivals([level(MAX_ARRIVALS, 2)], "even", rng())
