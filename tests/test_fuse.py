import random
from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.index.rows import LEGS
from gateway.schemas import LegName, LegWeights, Mode
from gateway.search.calibrate import Match
from gateway.search.fuse import MODES, SPLITS, fuse, fusion_of, leg_weights

legs = st.sets(st.sampled_from(LEGS), min_size=1)
modes = st.sampled_from(sorted(MODES))
categories = st.sampled_from([None, "tutorial", "music", "vlog", "other"])
TEXT: Collection[LegName] = ("speech", "keyword")


def match(leg: LegName, segment: str, relevance: float, rank: int = 1) -> Match:
    return Match(segment, "v", leg, relevance, relevance, rank)


@st.composite
def matches(draw: st.DrawFn) -> dict[LegName, tuple[Match, ...]]:
    relevances = st.dictionaries(st.sampled_from([f"v-{n}" for n in range(8)]), st.floats(0, 1))
    return {
        leg: tuple(match(leg, segment, value) for segment, value in draw(relevances).items())
        for leg in draw(legs)
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


@given(matches(), modes, st.randoms(use_true_random=False))
def test_the_order_of_legs_and_matches_changes_nothing(
    found: dict[LegName, tuple[Match, ...]], mode: Mode, shuffle: random.Random
) -> None:
    weights = leg_weights(found, mode)
    mixed = {leg: tuple(shuffle.sample(found[leg], len(found[leg]))) for leg in reversed(found)}
    assert fuse(mixed, leg_weights(list(mixed), mode)) == fuse(found, weights)


@given(matches(), modes)
def test_the_parts_make_up_the_fusion_exactly(
    found: dict[LegName, tuple[Match, ...]], mode: Mode
) -> None:
    for segment in fuse(found, leg_weights(found, mode)):
        assert segment.fusion == fusion_of(segment.legs)
        assert 0 <= segment.fusion <= 1


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
