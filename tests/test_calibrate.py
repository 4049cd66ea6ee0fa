import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.bundle import Band
from gateway.errors import ConfigurationError
from gateway.index.rows import Candidate
from gateway.search.calibrate import calibrate, relevance

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
