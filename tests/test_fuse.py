import random
from collections.abc import Collection
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.index.rows import LEGS
from gateway.schemas import FusionRule, LegName, LegScore, LegWeights, Mode
from gateway.search.calibrate import Match
from gateway.search.fuse import MODES, SPLITS, evidence_of, fuse, fusion_of, leg_weights

legs = st.sets(st.sampled_from(LEGS), min_size=1)
modes = st.sampled_from(sorted(MODES))
rules = st.sampled_from(get_args(FusionRule))
categories = st.sampled_from([None, "tutorial", "music", "vlog", "other"])
TEXT: Collection[LegName] = ("speech", "keyword")


def match(leg: LegName, segment: str, relevance: float, rank: int = 1) -> Match:
    return Match(segment, "v", leg, relevance, relevance, relevance, relevance, rank)


@st.composite
def matches(draw: st.DrawFn) -> dict[LegName, tuple[Match, ...]]:
    relevances = st.dictionaries(st.sampled_from([f"v-{n}" for n in range(8)]), st.floats(0, 1))
    found = {leg: draw(relevances) for leg in draw(legs)}
    return {
        leg: tuple(
            match(leg, segment, values[segment], rank)
            for rank, segment in enumerate(sorted(values, key=lambda s: (-values[s], s)), 1)
        )
        for leg, values in found.items()
    }


@given(legs, modes, categories)
def test_weights_of_the_legs_that_run_sum_to_one(
    running: set[LegName], mode: Mode, category: str | None
) -> None:
    weights = leg_weights(running, mode, category=category)
    assert set(weights) == running
    assert sum(weights.values()) == pytest.approx(1, abs=1e-12)
    assert min(weights.values()) > 0


@given(legs, st.lists(st.floats(0.01, 1), min_size=5, max_size=5))
def test_explicit_weights_keep_their_proportions(
    running: set[LegName], given_: list[float]
) -> None:
    explicit = LegWeights(**dict(zip(LEGS, given_, strict=True)))
    weights = leg_weights(running, "balanced", explicit, category="music")
    total = sum(getattr(explicit, leg) for leg in running)
    assert weights == pytest.approx({leg: getattr(explicit, leg) / total for leg in running})


def test_a_leg_at_weight_zero_has_no_share() -> None:
    assert leg_weights(TEXT, "balanced", LegWeights(speech=0.5)) == {"speech": 1.0}


@pytest.mark.parametrize(
    ("mode", "vision"), [("balanced", 0.5), ("vision_heavy", 0.7), ("text_heavy", 0.3)]
)
def test_a_mode_weighs_vision_against_text_whatever_legs_they_have(
    mode: Mode, vision: float
) -> None:
    few = leg_weights(("visual", "speech"), mode)
    many = leg_weights(("visual", "fused", "speech", "keyword"), mode)
    assert few["visual"] == pytest.approx(vision)
    assert many["visual"] + many["fused"] == pytest.approx(vision)


def test_audio_heavy_gives_sound_the_most() -> None:
    weights = leg_weights(("visual", "speech", "sound"), "audio_heavy")
    assert max(weights, key=lambda leg: weights[leg]) == "sound"


def test_sentences_weigh_more_than_words() -> None:
    assert leg_weights(TEXT, "balanced") == pytest.approx({"speech": 0.7, "keyword": 0.3})


def test_a_tutorial_shifts_to_text_music_to_sound_and_a_vlog_to_even_shares() -> None:
    running: Collection[LegName] = ("visual", "speech", "sound")
    plain = leg_weights(running, "vision_heavy")
    assert leg_weights(running, "vision_heavy", category="tutorial")["speech"] > plain["speech"]
    assert leg_weights(running, "vision_heavy", category="music")["sound"] > plain["sound"]
    even = leg_weights(running, "vision_heavy", category="vlog")
    assert list(even.values()) == pytest.approx([1 / 3] * 3)


def test_every_leg_belongs_to_one_modality() -> None:
    assert sorted(leg for split in SPLITS.values() for leg in split) == sorted(LEGS)


def test_a_leg_that_did_not_find_a_segment_adds_nothing() -> None:
    found = {"speech": (match("speech", "v-1", 0.5),), "keyword": (match("keyword", "v-2", 1.0),)}
    one, two = fuse(found, {"speech": 0.7, "keyword": 0.3})  # type: ignore[arg-type]
    assert (one.segment_id, one.fusion) == ("v-1", 0.35)
    assert (two.segment_id, two.fusion) == ("v-2", 0.3)
    assert [score.leg for score in two.legs] == ["keyword"]


@given(matches(), modes, rules, st.randoms(use_true_random=False))
def test_the_order_of_legs_and_matches_changes_nothing(
    found: dict[LegName, tuple[Match, ...]],
    mode: Mode,
    rule: FusionRule,
    shuffle: random.Random,
) -> None:
    weights = leg_weights(found, mode)
    mixed = {leg: tuple(shuffle.sample(found[leg], len(found[leg]))) for leg in reversed(found)}
    assert fuse(mixed, leg_weights(list(mixed), mode), rule) == fuse(found, weights, rule)


@given(matches(), modes, rules)
def test_the_parts_make_up_the_fusion_exactly(
    found: dict[LegName, tuple[Match, ...]], mode: Mode, rule: FusionRule
) -> None:
    for segment in fuse(found, leg_weights(found, mode), rule):
        assert segment.fusion == fusion_of(segment.legs)
        assert 0 <= segment.fusion <= 1
        assert all(0 <= score.part <= score.weight for score in segment.legs)


@given(matches(), modes, rules)
def test_what_is_better_in_every_leg_is_never_fused_below(
    found: dict[LegName, tuple[Match, ...]], mode: Mode, rule: FusionRule
) -> None:
    fused = {one.segment_id: one for one in fuse(found, leg_weights(found, mode), rule)}
    ranks = {
        segment: {score.leg: score.rank for score in one.legs} for segment, one in fused.items()
    }
    for better, ours in ranks.items():
        for worse, theirs in ranks.items():
            if all(leg in ours and ours[leg] <= rank for leg, rank in theirs.items()):
                assert fused[better].fusion >= fused[worse].fusion - 1e-12


def test_reciprocal_rank_fusion_looks_at_ranks_alone() -> None:
    found = {"speech": (match("speech", "v-1", 0.9, 1), match("speech", "v-2", 0.1, 2))}
    one, two = fuse(found, {"speech": 1.0}, "rrf")  # type: ignore[arg-type]
    assert one.fusion == 1
    assert two.fusion == pytest.approx(61 / 62)


def test_min_max_stretches_each_leg_from_its_worst_to_its_best() -> None:
    found = {
        "speech": tuple(match("speech", f"v-{n}", value) for n, value in enumerate((0.8, 0.5, 0.2)))
    }
    fused = fuse(found, {"speech": 1.0}, "minmax")  # type: ignore[arg-type]
    assert [one.fusion for one in fused] == pytest.approx([1, 0.5, 0])
    lone = {"speech": (match("speech", "v-1", 0.3),)}
    assert fuse(lone, {"speech": 1.0}, "minmax")[0].fusion == 1  # type: ignore[arg-type]


def score(leg: LegName, relevance: float, weight: float = 0.5) -> LegScore:
    return LegScore(
        leg=leg,
        raw=0,
        relevance=relevance,
        evidence=relevance,
        strength=relevance,
        weight=weight,
        part=0,
        rank=1,
    )


relevances = st.lists(st.tuples(st.sampled_from(LEGS), st.floats(0, 1)), max_size=5)


@given(relevances, st.sampled_from(LEGS), st.floats(0, 1), st.floats(0, 1))
def test_another_witness_never_lowers_the_evidence_and_weights_do_not_count(
    found: list[tuple[LegName, float]], leg: LegName, relevance: float, weight: float
) -> None:
    before = evidence_of(score(leg, value) for leg, value in found)
    more = [*found, (leg, relevance)]
    after = evidence_of(score(leg, value, weight) for leg, value in more)
    assert 0 <= before <= after + 1e-12 <= 1 + 1e-12


def test_one_sure_leg_is_enough_evidence() -> None:
    assert evidence_of([score("speech", 1.0, 0.01)]) == 1
    assert evidence_of([]) == 0


@given(matches(), modes, st.data())
def test_a_more_relevant_match_never_lowers_the_fusion(
    found: dict[LegName, tuple[Match, ...]], mode: Mode, data: st.DataObject
) -> None:
    leg = data.draw(st.sampled_from(sorted(found)))
    raised = tuple(match(leg, m.segment_id, 1.0) for m in found[leg])
    weights = leg_weights(found, mode)
    before = {segment.segment_id: segment.fusion for segment in fuse(found, weights)}
    for segment in fuse(found | {leg: raised}, weights):
        assert segment.fusion >= before[segment.segment_id]
