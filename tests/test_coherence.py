import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.search.coherence import NEIGHBOUR_MS, coherence
from gateway.search.fuse import Fused


def segment(start_ms: int, fusion: float, video_id: str = "v") -> Fused:
    return Fused(f"{video_id}-{start_ms:09d}", video_id, (), fusion)


@st.composite
def segments(draw: st.DrawFn) -> list[Fused]:
    spots = st.tuples(st.sampled_from(["v", "w", "v-1"]), st.integers(0, 60))
    fusions = draw(st.dictionaries(spots, st.floats(0, 1), max_size=20))
    return [segment(second * 1_000, f, video) for (video, second), f in fusions.items()]


def test_neighbours_that_both_match_lift_each_other_alike() -> None:
    gains = coherence([segment(0, 0.8), segment(5_000, 0.5)], 0.2)
    assert gains == pytest.approx({"v-000000000": 0.1, "v-000005000": 0.1})


def test_the_better_neighbour_counts() -> None:
    gains = coherence([segment(0, 0.1), segment(5_000, 0.9), segment(10_000, 0.8)], 0.2)
    assert gains["v-000005000"] == pytest.approx(0.16)


def test_segments_far_apart_or_of_other_videos_are_no_neighbours() -> None:
    far = [segment(0, 1), segment(NEIGHBOUR_MS + 1, 1)]
    other = [segment(0, 1), segment(5_000, 1, "w")]
    assert coherence(far, 0.2) == coherence(other, 0.2) == {}


def test_a_strong_neighbour_does_not_carry_a_weak_segment() -> None:
    gains = coherence([segment(0, 0.01), segment(5_000, 1.0)], 0.2)
    assert max(gains.values()) == pytest.approx(0.002)


@given(segments(), st.floats(0, 1))
def test_no_segment_gains_more_than_its_share_of_itself(found: list[Fused], weight: float) -> None:
    gains = coherence(found, weight)
    for one in found:
        assert 0 <= gains.get(one.segment_id, 0.0) <= weight * one.fusion


@given(segments(), st.randoms(use_true_random=False))
def test_the_order_of_segments_changes_nothing(found: list[Fused], shuffle: random.Random) -> None:
    assert coherence(shuffle.sample(found, len(found)), 0.2) == coherence(found, 0.2)
