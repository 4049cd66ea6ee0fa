import math

import numpy as np
import pytest

from gateway.errors import InvalidRequest
from training.evaluation.bootstrap import (
    compare,
    compare_runs,
    interval,
    measure,
    ndcg_at,
    recall_at,
    reciprocal_ranks,
)

RANKS = [1, 2, 0, 5, 11]


def test_recall_counts_answers_among_the_first() -> None:
    assert recall_at(RANKS, 1).tolist() == [1, 0, 0, 0, 0]
    assert recall_at(RANKS, 5).tolist() == [1, 1, 0, 1, 0]
    assert recall_at(RANKS, 11).tolist() == [1, 1, 0, 1, 1]


def test_a_missed_answer_has_no_reciprocal_rank() -> None:
    assert reciprocal_ranks(RANKS) == pytest.approx([1, 1 / 2, 0, 1 / 5, 1 / 11])


def test_ndcg_falls_with_the_logarithm_and_ends_at_its_depth() -> None:
    assert ndcg_at(RANKS) == pytest.approx([1, 1 / math.log2(3), 0, 1 / math.log2(6), 0])


def test_an_interval_is_that_of_the_normal_approximation() -> None:
    values = np.random.default_rng(3).random(1_000)
    found = interval(values)
    half = 1.96 * values.std() / math.sqrt(len(values))
    assert found.mean == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.1 * half)
    assert found.high == pytest.approx(values.mean() + half, abs=0.1 * half)


def test_an_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        found = interval((rng.random(80) < 0.7).astype(np.float64), resamples=400)
        covered += found.low <= 0.7 <= found.high
    assert 0.88 <= covered / 200 <= 0.99


def test_equal_values_have_an_interval_without_width() -> None:
    found = interval(np.full(9, 0.25))
    assert (found.mean, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))


def test_the_same_seed_measures_the_same() -> None:
    assert measure(RANKS, seed=1) == measure(RANKS, seed=1)
    assert measure(RANKS, seed=1) != measure(RANKS, seed=2)


def test_measures_are_the_means_of_their_values() -> None:
    found = measure(RANKS)
    assert found.queries == 5
    assert (found.recall_1.mean, found.recall_10.mean) == pytest.approx((0.2, 0.6))
    assert found.mrr.mean == pytest.approx(reciprocal_ranks(RANKS).mean())
    assert found.ndcg_10.mean == pytest.approx(ndcg_at(RANKS).mean())


def test_a_small_steady_gain_is_found_by_pairing() -> None:
    rng = np.random.default_rng(7)
    second = rng.random(300)  # its own spread is far wider than the gain
    first = second + 0.01
    found = compare(first, second)
    assert found.is_better
    assert found.p_value == 0
    assert found.relative is not None
    assert found.relative.mean == pytest.approx(first.mean() / second.mean() - 1)
    assert not compare(second, first).is_better


def test_a_run_is_not_better_than_itself() -> None:
    values = np.random.default_rng(9).random(50)
    found = compare(values, values)
    assert not found.is_better
    assert found.p_value == 1
    assert found.difference.low == found.difference.high == 0


def test_nothing_is_above_zero_by_a_factor() -> None:
    assert compare(np.ones(4), np.zeros(4)).relative is None


def test_runs_are_compared_on_the_queries_that_both_have() -> None:
    found = compare_runs({"a": 1, "b": 2, "c": 1}, {"b": 1, "a": 1, "d": 1})
    assert found.queries == 2
    assert found.difference.mean == pytest.approx((1 / math.log2(3) - 1) / 2)


def test_runs_without_a_query_in_common_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no query in common"):
        compare_runs({"a": 1}, {"b": 1})


def test_values_that_do_not_pair_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="2 and 3"):
        compare(np.ones(2), np.ones(3))


def test_no_queries_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="no queries"):
        measure([])
