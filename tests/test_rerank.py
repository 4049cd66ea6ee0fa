import random
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import ConfigurationError
from gateway.search.fuse import Fused
from gateway.search.rerank import MAX_PIX_WEIGHT, PixLaw, rerank

laws = st.builds(PixLaw, st.floats(0, MAX_PIX_WEIGHT), st.integers(1, 10**9))
pixes = st.integers(0, 10**12)
relevances = st.floats(0.001, 1)


def fused(video: str, fusion: float, start_ms: int = 0) -> Fused:
    return Fused(f"{video}-{start_ms:09d}", video, (), fusion)


def scores(law: PixLaw, relevance_pix: dict[str, tuple[float, int]]) -> dict[str, float]:
    found = [fused(video, relevance) for video, (relevance, _) in relevance_pix.items()]
    pix = {video: owned for video, (_, owned) in relevance_pix.items()}
    return {one.video_id: one.score for one in rerank(found, {}, pix, law)}


def test_the_law_at_its_ends_and_in_between() -> None:
    law = PixLaw(weight=0.2, cap=10_000)
    assert law.gain(0) == 0
    assert law.gain(10_000) == law.gain(10**9) == 1
    assert law.gain(99) == pytest.approx(0.5, abs=1e-4)
    assert scores(law, {"v": (0.5, 10_000)})["v"] == pytest.approx(0.6)


@given(laws, relevances, relevances, pixes, pixes)
def test_pix_never_lifts_a_result_over_one_more_than_one_plus_beta_times_as_relevant(
    law: PixLaw, a: float, b: float, pix_a: int, pix_b: int
) -> None:
    weak, strong = sorted((a, b))
    result = scores(law, {"weak": (weak, pix_a), "strong": (strong, pix_b)})
    if strong > (1 + law.weight) * weak:
        assert result["strong"] > result["weak"]
    assert result["weak"] <= weak * (1 + law.weight)


@given(laws, relevances, pixes, pixes)
def test_more_pix_never_lowers_a_score(law: PixLaw, relevance: float, a: int, b: int) -> None:
    poor, rich = sorted((a, b))
    result = scores(law, {"poor": (relevance, poor), "rich": (relevance, rich)})
    assert relevance <= result["poor"] <= result["rich"]


@given(laws, relevances)
def test_no_pix_changes_nothing(law: PixLaw, relevance: float) -> None:
    assert scores(law, {"v": (relevance, 0)}) == {"v": relevance}


@given(st.integers(1, 10**9), relevances, pixes)
def test_at_weight_zero_pix_changes_nothing(cap: int, relevance: float, pix: int) -> None:
    assert scores(PixLaw(0, cap), {"v": (relevance, pix)}) == {"v": relevance}


@given(
    laws,
    st.dictionaries(st.sampled_from("abcdef"), st.tuples(relevances, pixes)),
    st.floats(0, 1),
    st.randoms(use_true_random=False),
)
def test_parts_recompose_the_score_exactly_and_order_of_input_does_not_matter(
    law: PixLaw, videos: dict[str, tuple[float, int]], lift: float, shuffle: random.Random
) -> None:
    found = [fused(video, relevance) for video, (relevance, _) in videos.items()]
    lifts = {one.segment_id: lift for one in found[:2]}
    pix = {video: owned for video, (_, owned) in videos.items()}
    ranked = rerank(found, lifts, pix, law)
    assert rerank(shuffle.sample(found, len(found)), lifts, pix, law) == ranked
    assert [one.score for one in ranked] == sorted((one.score for one in ranked), reverse=True)
    for one in ranked:
        parts = one.parts
        assert one.score == parts.relevance * (1 + parts.pix_boost)
        assert parts.relevance == min(1.0, parts.fusion + parts.coherence)
        assert parts.pix_boost == parts.pix_weight * parts.pix_gain
        assert (parts.pix, parts.pix_cap) == (pix[one.video_id], law.cap)


@given(laws, st.dictionaries(st.sampled_from("abcdef"), st.tuples(relevances, pixes)))
def test_pix_reorders_nothing_beyond_its_bound_and_the_ranks_tell_what_it_did(
    law: PixLaw, videos: dict[str, tuple[float, int]]
) -> None:
    found = [fused(video, relevance) for video, (relevance, _) in videos.items()]
    pix = {video: owned for video, (_, owned) in videos.items()}
    ranked = rerank(found, {}, pix, law)
    plain = rerank(found, {}, dict.fromkeys(pix, 0), law)
    assert [one.parts.rank for one in ranked] == list(range(1, len(ranked) + 1))
    without = {one.segment_id: place for place, one in enumerate(plain, 1)}
    assert {one.segment_id: one.parts.rank_without_pix for one in ranked} == without
    for upper, lower in combinations(ranked, 2):
        if upper.parts.rank_without_pix > lower.parts.rank_without_pix:
            bound = (1 + law.weight) * upper.parts.relevance
            assert lower.parts.relevance <= bound * (1 + 1e-12)


@given(st.dictionaries(st.sampled_from("abcdef"), st.tuples(relevances, pixes)))
def test_a_higher_pix_weight_lifts_the_rich_at_least_as_much(
    videos: dict[str, tuple[float, int]],
) -> None:
    low, high = scores(PixLaw(0.1, 100), videos), scores(PixLaw(0.5, 100), videos)
    assert all(low[video] <= high[video] for video in videos)


def test_ids_decide_between_equals() -> None:
    ranked = rerank([fused("b", 0.5), fused("a", 0.5)], {}, {"a": 0, "b": 0}, PixLaw(0.2, 100))
    assert [one.video_id for one in ranked] == ["a", "b"]


def test_segments_of_videos_that_cannot_be_searched_are_dropped() -> None:
    ranked = rerank([fused("gone", 1.0), fused("there", 0.1)], {}, {"there": 5}, PixLaw(0.2, 100))
    assert [one.video_id for one in ranked] == ["there"]


@pytest.mark.parametrize(("weight", "cap"), [(0.51, 100), (-0.1, 100), (float("nan"), 1), (0.2, 0)])
def test_numbers_outside_the_law_are_refused(weight: float, cap: int) -> None:
    with pytest.raises(ConfigurationError):
        PixLaw(weight, cap)
