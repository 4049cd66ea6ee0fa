import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.arrays import FloatArray
from ensembles.bundle import Band
from gateway.errors import ConfigurationError, InvalidRequest
from gateway.search.mix import Part, band_of, judge, mix

WIDTH = 8
IMAGES = Band(low=0.5, high=1.0)
WORDS = Band(low=0.2, high=0.3)


def unit(seed: int) -> FloatArray:
    vector = np.random.default_rng(seed).standard_normal(WIDTH)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


def axis(number: int) -> FloatArray:
    return np.eye(WIDTH, dtype=np.float32)[number]


def unbounded(cosine: float, band: Band) -> float:
    return (cosine - band.low) / (band.high - band.low)


SEEDS = st.integers(0, 10_000)


def test_one_input_is_searched_with_as_it_is() -> None:
    vector, band = mix([Part(axis(0), IMAGES, 0.3)])
    assert vector is not None
    assert (vector == axis(0)).all()
    assert band == IMAGES


@given(SEEDS, SEEDS, SEEDS, st.floats(0.1, 1), st.floats(0.1, 1))
def test_the_relevance_of_several_inputs_is_the_mean_of_their_relevances_by_share(
    one: int, two: int, document: int, share: float, other: float
) -> None:
    parts = [Part(unit(one), IMAGES, share), Part(unit(two), WORDS, other)]
    try:
        vector, band = mix(parts)
    except InvalidRequest:
        return  # they cancel each other out
    assert vector.dtype == np.float32
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    cosines = [float(part.vector @ unit(document)) for part in parts]
    expected = sum(
        part.share * unbounded(cosine, part.band)
        for part, cosine in zip(parts, cosines, strict=True)
    ) / (share + other)
    assert unbounded(float(vector @ unit(document)), band) == pytest.approx(expected, abs=1e-3)


@given(SEEDS, SEEDS)
def test_what_is_taken_away_has_nothing_of_the_query_left(asked: int, away: int) -> None:
    query, gone = unit(asked), unit(away)
    try:
        vector, band = mix([Part(query, WORDS)], [Part(gone, WORDS)])
    except InvalidRequest:
        assert float(query @ gone) > 0.99
        return
    if float(query @ gone) > 0:
        assert float(vector @ gone) == pytest.approx(0, abs=1e-4)
    else:
        assert (vector == query).all()
        assert band == WORDS
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert band.low < band.high


def test_a_segment_that_is_nothing_like_what_is_taken_away_keeps_its_relevance() -> None:
    band = Band(low=0.0, high=1.0)
    asked = ((axis(0) + axis(1)) / np.sqrt(2)).astype(np.float32)
    vector, left = mix([Part(asked, band)], [Part(axis(1), band)])
    before = unbounded(float(asked @ axis(0)), band)
    assert unbounded(float(vector @ axis(0)), left) == pytest.approx(before, abs=1e-6)
    assert unbounded(float(vector @ axis(1)), left) == pytest.approx(0, abs=1e-6)


def test_inputs_that_cancel_each_other_out_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="cancel"):
        mix([Part(axis(0), IMAGES), Part(-axis(0), IMAGES)])
    with pytest.raises(InvalidRequest, match="nothing is left"):
        mix([Part(axis(0), IMAGES)], [Part(axis(0), IMAGES)])


def test_an_input_that_is_nothing_like_a_segment_takes_nothing_from_the_others() -> None:
    image, words = Part(axis(0), IMAGES), Part(-axis(0), WORDS, 0.5)
    judged = judge([image, words], [], {"seen": axis(0), "other": axis(1)})
    assert judged["seen"].relevance == pytest.approx(2 / 3)
    assert judged["seen"].evidence == pytest.approx(1)
    assert (judged["other"].relevance, judged["other"].evidence) == (0, 0)


@given(SEEDS, SEEDS, SEEDS)
def test_evidence_is_at_least_that_of_the_best_input_and_a_further_one_only_adds(
    one: int, two: int, document: int
) -> None:
    wide = Band(low=-1.0, high=1.0)
    parts, stored = [Part(unit(one), wide), Part(unit(two), wide)], {"it": unit(document)}
    both = judge(parts, [], stored)["it"]
    alone = [judge([part], [], stored)["it"] for part in parts]
    assert both.evidence >= max(one.evidence for one in alone) - 1e-6
    assert both.relevance == pytest.approx(sum(one.relevance for one in alone) / 2, abs=1e-6)
    assert all(one.relevance == pytest.approx(one.evidence) for one in alone)


def test_an_input_that_is_what_is_not_wanted_says_nothing() -> None:
    parts, away = [Part(axis(0), IMAGES), Part(axis(1), WORDS)], [Part(axis(1), WORDS)]
    judged = judge(parts, away, {"seen": axis(0), "unwanted": axis(1)})
    assert (judged["seen"].relevance, judged["seen"].evidence) == (pytest.approx(0.5), 1.0)
    assert judged["unwanted"].evidence == 0


def test_words_have_a_band_of_their_own_where_one_was_measured() -> None:
    calibration = {"visual": IMAGES, "visual_by_words": WORDS, "sound": IMAGES}
    assert band_of("visual", "image", calibration) == IMAGES
    assert band_of("visual", "like", calibration) == IMAGES
    assert band_of("visual", "clip", calibration) == WORDS
    assert band_of("sound", "sound_text", calibration) == IMAGES


@pytest.mark.parametrize("calibration", [{}, {"visual": Band(low=1.0, high=1.0)}])
def test_a_bundle_without_a_band_is_refused(calibration: dict[str, Band]) -> None:
    with pytest.raises(ConfigurationError):
        band_of("visual", "image", calibration)
