"""Histograms, intervals and second-by-second series say what is true of known numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loadtest.harness.confidence import (
    percentile_interval_ms,
    ratio_interval,
    share_difference,
    wilson,
)
from loadtest.harness.histograms import (
    HIGHEST_US,
    PERCENTILES,
    curve_ms,
    empty,
    histogram_of,
    merged,
    per_second,
    percentile_ms,
    percentiles_ms,
    read_log,
    write_log,
)
from loadtest.harness.records import RECORD, Outcome
from loadtest.harness.series import STEADY_S, recovery_s, series_of
from loadtest.harness.worker.share import NO_STAGES

seconds = st.lists(st.floats(1e-5, 100), min_size=1, max_size=200)


@given(seconds)
def test_percentiles_are_within_a_thousandth_of_the_truth(times):
    made = histogram_of(np.array(times))
    for percent in PERCENTILES.values():
        truth_ms = np.percentile(times, percent, method="inverted_cdf") * 1_000
        assert percentile_ms(made, percent) == pytest.approx(truth_ms, rel=1e-3, abs=1e-3)


@given(seconds, seconds)
def test_merging_is_the_same_as_counting_everything_at_once(a, b):
    both = merged([histogram_of(np.array(a)), histogram_of(np.array(b))])
    assert percentiles_ms(both) == percentiles_ms(histogram_of(np.array(a + b)))


def test_times_beyond_the_limits_count_at_the_limit():
    made = histogram_of(np.array([0.0, 1e9]))
    assert made.get_total_count() == 2
    assert percentile_ms(made, 100) == pytest.approx(HIGHEST_US / 1_000, rel=1e-3)


def test_a_histogram_without_values_has_no_percentiles():
    assert percentiles_ms(empty()) == {}
    assert curve_ms(empty()) == []
    assert np.isnan(percentile_ms(empty(), 50))


def test_the_curve_ends_at_the_maximum():
    curve = curve_ms(histogram_of(np.linspace(0.001, 1.0, 1_000)))
    assert curve[0][0] == 0
    assert curve[-1] == (pytest.approx(99.9), pytest.approx(999, rel=0.002))
    assert [ms for _, ms in curve] == sorted(ms for _, ms in curve)


def test_a_log_holds_every_second_and_can_be_read_back(tmp_path):
    due = np.array([0.1, 0.9, 2.5])
    intervals = per_second(due, np.array([0.010, 0.020, 0.030]))
    assert [second for second, _ in intervals] == [0, 2]
    write_log(tmp_path / "a.hlog", intervals, 1_700_000_000.0)
    back = read_log(tmp_path / "a.hlog")
    assert [h.get_total_count() for h in back] == [2, 1]
    assert percentile_ms(merged(back), 100) == pytest.approx(30, rel=1e-3)


def test_a_file_that_is_no_log_is_refused(tmp_path):
    (tmp_path / "a.hlog").write_text("0.0,1.0,2.0,HISTnonsense\n")
    with pytest.raises(ValueError, match="no histogram log"):
        read_log(tmp_path / "a.hlog")


# ---- intervals ----------------------------------------------------------------------------------


def test_the_difference_of_shares_is_that_of_the_published_example():
    """56 of 70 against 48 of 80: Newcombe 1998, table II (a), method 10."""
    low, high = share_difference((48, 80), (56, 70))
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_wilsons_interval_is_that_of_the_published_example():
    """81 of 263: Newcombe 1998, two-sided, method 3."""
    assert wilson(81, 263) == (pytest.approx(0.2553, abs=1e-4), pytest.approx(0.3662, abs=1e-4))
    assert wilson(0, 0) == (0.0, 1.0)


def intervals(seed, scale=1.0, count=60):
    rng = np.random.default_rng(seed)
    return [histogram_of(rng.lognormal(-4, 0.4, 100) * scale) for _ in range(count)]


def test_two_runs_of_the_same_thing_do_not_differ_and_a_slower_one_does():
    low, high = ratio_interval(intervals(1), intervals(2), 99)
    assert low < 1 < high
    low, high = ratio_interval(intervals(1), intervals(2, scale=1.3), 99)
    assert 1.1 < low < 1.3 < high < 1.5


def test_runs_of_a_few_seconds_have_no_interval():
    assert ratio_interval(intervals(1, count=9), intervals(2), 50) is None


def test_the_interval_of_a_percentile_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(200):
        low, high = percentile_interval_ms(histogram_of(rng.exponential(0.05, 2_000)), 95)
        covered += low * 0.999 <= 50 * np.log(20) <= high * 1.001
    assert 0.9 < covered / 200 <= 1.0


def test_too_few_values_have_no_interval():
    assert percentile_interval_ms(histogram_of(np.ones(50)), 99) is None


# ---- second by second ---------------------------------------------------------------------------


def records(*rows):
    """(due, latency, outcome) each."""
    return np.array(
        [(0, outcome, 0, due, 0.0, latency, NO_STAGES) for due, latency, outcome in rows],
        dtype=RECORD,
    )


def test_requests_count_in_the_second_they_were_due_and_answers_when_they_came():
    series = series_of(
        records(
            (0.2, 0.1, Outcome.OK),
            (0.9, 0.5, Outcome.OK),
            (1.5, 0.2, Outcome.DEGRADED),
            (2.5, 9.0, Outcome.HUNG),
            (2.9, 9.0, Outcome.FAILED),
        ),
        3,
    )
    assert series.offered == (2, 1, 2)
    assert series.ok == (2, 0, 0)
    assert series.degraded == (0, 1, 0)
    assert series.failed == (0, 0, 1)
    assert series.hung == (0, 0, 1)
    assert series.completed == (1, 2, 0)
    assert series.p99_ms == (pytest.approx(500), pytest.approx(200), None)
    assert series.well() == [True, False, False]


def test_recovery_is_the_start_of_the_first_steady_seconds():
    well = [True] * 5 + [False, False, True, False] + [True] * STEADY_S
    assert recovery_s(well, 5.0, len(well)) == 4.0
    assert recovery_s(well, 5.4, len(well)) == pytest.approx(3.6)


def test_what_never_broke_recovered_at_once():
    assert recovery_s([True] * 10, 4.2, 10) == 0.0


def test_what_stays_broken_does_not_recover():
    assert recovery_s([True] * 3 + [False] * 7, 3.0, 10) is None
    assert recovery_s([True] * 3 + [False] * 5 + [True] * 2, 3.0, 10) is None


def test_seconds_in_which_nothing_was_asked_say_nothing():
    assert recovery_s([False, None, True, None, True, True], 0.0, 6) == 2.0


def test_a_recovery_after_the_next_fault_is_not_this_ones():
    well = [False] * 6 + [True] * 10
    assert recovery_s(well, 0.0, 6.0) is None
