"""Percentiles and queries of the measurements."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from loadtest.queries import unique_queries
from loadtest.stack import running_stack
from loadtest.stats import latencies


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
def test_percentiles_are_times_that_were_measured_and_rise(seconds):
    summary = latencies(seconds)
    shown = [summary.ms_p50, summary.ms_p95, summary.ms_p99, summary.ms_max]
    assert shown == sorted(shown)
    assert all(any(ms == pytest.approx(s * 1000) for s in seconds) for ms in shown)
    assert summary.ms_max == pytest.approx(max(seconds) * 1000)


def test_the_99th_percentile_of_a_hundred_even_times_is_the_hundredth():
    summary = latencies([ms / 1000 for ms in range(1, 102)])
    assert summary.ms_p50 == pytest.approx(51)
    assert summary.ms_p99 == pytest.approx(100)


def test_no_times_at_all_are_refused():
    with pytest.raises(ValueError, match="no times"):
        latencies([])


def test_queries_are_different_and_the_same_at_every_run():
    queries = unique_queries(500)
    assert len(set(queries)) == 500
    assert queries == unique_queries(500)


def test_a_folder_without_the_demo_videos_is_refused_before_anything_is_started(tmp_path):
    with (
        pytest.raises(ConfigurationError, match="does not hold the demo videos"),
        running_stack(tmp_path),
    ):
        pass
    assert list(tmp_path.iterdir()) == []
