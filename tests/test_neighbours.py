import numpy as np
import pytest

from ensembles.arrays import FloatArray
from gateway.index.neighbours import Neighbours, mean_recall, overlap, recall


def units(count: int, seed: int) -> FloatArray:
    rows = np.random.default_rng(seed).standard_normal((count, 8))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("page", [1, 7, 100])
def test_neighbours_are_those_of_all_rows_however_they_come(page: int) -> None:
    queries, rows = units(5, 1), units(60, 2)
    names = [f"row-{number}" for number in range(60)]
    found = Neighbours(queries, 10)
    for start in range(0, 60, page):
        found.add(names[start : start + page], rows[start : start + page])
    best = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    assert found.ids() == [[names[number] for number in row] for row in best]


def test_fewer_rows_than_neighbours_are_all_of_them() -> None:
    found = Neighbours(units(2, 1), 10)
    assert found.ids() == [[], []]
    found.add(["a"], units(1, 2))
    assert found.ids() == [["a"], ["a"]]


def test_recall_is_the_share_of_the_truth() -> None:
    assert recall(["a", "b", "x"], ["a", "b", "c", "d"]) == 0.5
    assert recall(["a"], []) == 1.0
    assert mean_recall([["a"], ["x"]], [["a"], ["b"]]) == 0.5
    assert mean_recall([], []) == 1.0


def test_overlap_looks_at_the_first_alone_and_counts_what_only_one_has() -> None:
    assert overlap(["a", "b", "c"], ["b", "a", "d"], 2) == 1.0
    assert overlap(["a", "b"], ["a"], 10) == 0.5
    assert overlap([], ["a"], 10) == 0.0
    assert overlap([], [], 10) == 1.0
