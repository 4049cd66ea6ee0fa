import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.bundle import Band
from gateway.errors import ConfigurationError
from gateway.index.rows import Candidate
from gateway.search.calibrate import Judged, calibrate, relevance

floats = st.floats(-100, 100)


def test_relevance_rises_from_the_low_to_the_high_end_of_the_band() -> None:
    band = Band(low=0.25, high=0.75)
    raws = [-1.0, 0.25, 0.5, 0.75, 9.0]
    assert [relevance(raw, band) for raw in raws] == [0, 0, 0.5, 1, 1]


@given(floats, floats, floats, st.floats(0.001, 100))
def test_relevance_is_bounded_and_never_falls(a: float, b: float, low: float, width: float) -> None:
    band = Band(low=low, high=low + width)
    worse, better = (relevance(raw, band) for raw in sorted((a, b)))
    assert 0 <= worse <= better <= 1


def test_a_band_that_does_not_rise_is_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"0\.5 to 0\.5"):
        relevance(0.5, Band(low=0.5, high=0.5))


def test_matches_are_ranked_best_first_and_irrelevant_ones_left_out() -> None:
    found = [Candidate("v-3", "v", 0.1), Candidate("v-2", "v", 0.9), Candidate("v-1", "v", 0.9)]
    matches = calibrate({"speech": found}, {"speech": Band(low=0.1, high=1.1)})["speech"]
    assert [(m.segment_id, m.rank) for m in matches] == [("v-1", 1), ("v-2", 2)]
    assert [m.relevance for m in matches] == pytest.approx([0.8, 0.8])
    assert [m.evidence for m in matches] == [m.relevance for m in matches]


def test_what_several_inputs_say_takes_the_place_of_the_raw_score() -> None:
    found = [Candidate("v-1", "v", 0.9), Candidate("v-2", "v", 0.1), Candidate("v-3", "v", 0.8)]
    judged = {"v-1": Judged(0.0, 0.0, 0.0), "v-2": Judged(0.6, 0.6, 1.0)}
    band = Band(low=0.5, high=1.5)
    matches = calibrate({"visual": found}, {"visual": band}, {"visual": judged})["visual"]
    told = [(m.segment_id, m.relevance, m.evidence, m.rank) for m in matches]
    assert told[0] == ("v-2", 0.6, 1.0, 1)
    assert told[1] == ("v-3", pytest.approx(0.3), pytest.approx(0.3), 2)
    assert len(told) == 2
