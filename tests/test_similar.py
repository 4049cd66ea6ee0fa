import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.arrays import FloatArray
from gateway.search.group import Entry
from gateway.search.similar import MAX_COMPARED, Vectors, collapse, cosines, diversify
from tests.rankings import entries


def unit(*values: float) -> FloatArray:
    vector = np.array(values, np.float32)
    return vector / np.linalg.norm(vector)


def vectors(all_: tuple[Entry, ...], *rows: FloatArray) -> Vectors:
    return {"visual": {entry.best.segment_id: row for entry, row in zip(all_, rows, strict=True)}}


def ids(found: tuple[Entry, ...]) -> list[str]:
    return [entry.video_id for entry in found]


def test_a_copy_becomes_part_of_the_better_entry() -> None:
    all_ = entries(3)
    found = collapse(all_, vectors(all_, unit(1, 0), unit(0, 1), unit(1, 0.01)))
    assert ids(found) == ["v0", "v1"]
    assert found[0].duplicates == ("v2",)
    assert found[1].duplicates == ()


def test_what_looks_the_same_and_says_something_else_is_no_copy() -> None:
    all_ = entries(2)
    a, b = (entry.best.segment_id for entry in all_)
    same = {a: unit(1, 0), b: unit(1, 0)}
    assert len(collapse(all_, {"visual": same})) == 1
    assert len(collapse(all_, {"visual": same, "speech": {a: unit(1, 0), b: unit(0, 1)}})) == 2
    assert len(collapse(all_, {"visual": same, "speech": {a: unit(1, 0)}})) == 2


def test_without_vectors_nothing_is_a_copy_and_the_order_stays() -> None:
    assert collapse(entries(5), {}) == entries(5)
    assert diversify(entries(5), {}, 0.9) == entries(5)
    assert collapse((), {}) == diversify((), {}, 1.0) == ()


def test_diversity_prefers_what_is_unlike_the_entries_before() -> None:
    all_ = entries(3)
    rows = vectors(all_, unit(1, 0), unit(1, 0.1), unit(0, 1))
    assert ids(diversify(all_, rows, 0.7)) == ["v0", "v2", "v1"]
    assert diversify(all_, rows, 0.0) == all_


def test_cosines_are_of_the_legs_that_both_have() -> None:
    all_ = entries(2)
    a, b = (entry.best.segment_id for entry in all_)
    of_legs: Vectors = {
        "visual": {a: unit(1, 0), b: unit(1, 0)},
        "speech": {a: unit(1, 0), b: unit(0, 1)},
        "sound": {a: unit(1, 0)},
    }
    mean, least = cosines((a, b), of_legs)
    assert mean[0, 1] == pytest.approx(0.5)
    assert least[0, 1] == -1


@given(st.integers(0, MAX_COMPARED + 10), st.floats(0, 1), st.integers(0, 99))
def test_diversity_only_reorders_and_collapsing_loses_no_video(
    count: int, diversity: float, seed: int
) -> None:
    all_ = entries(count)
    rng = np.random.default_rng(seed)
    rows = vectors(all_, *(unit(*rng.normal(size=3)) for _ in all_))
    spread = diversify(all_, rows, diversity)
    assert sorted(ids(spread)) == sorted(ids(all_))
    assert spread[:1] == all_[:1]
    kept = collapse(all_, rows)
    told = [*ids(kept), *(video for entry in kept for video in entry.duplicates)]
    assert sorted(told) == sorted(ids(all_))
