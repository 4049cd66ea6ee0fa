import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.index.rows import LEGS
from gateway.schemas import LegName
from gateway.search.calibrate import Match
from gateway.search.clarity import DEPTH, by_clarity, clarity

weights = st.dictionaries(st.sampled_from(LEGS), st.floats(0.01, 1), min_size=1)


def matches(*relevances: float, leg: LegName = "speech") -> tuple[Match, ...]:
    best_first = sorted(relevances, reverse=True)
    return tuple(Match(f"v-{n}", "v", leg, r, r, r, r, n + 1) for n, r in enumerate(best_first))


def test_a_leg_with_one_answer_is_clear_and_one_with_many_alike_is_not() -> None:
    assert clarity(matches(1.0, *[0.1] * 20)) == pytest.approx(0.81)
    assert clarity(matches(*[0.7] * 30)) == pytest.approx(0)
    assert clarity(matches()) == 0


def test_where_few_are_found_the_others_count_as_nothing() -> None:
    assert clarity(matches(0.5)) == pytest.approx(0.5 - 0.5 / DEPTH)


@given(st.lists(st.floats(0, 1), max_size=30))
def test_clarity_is_bounded(relevances: list[float]) -> None:
    assert -1e-12 <= clarity(matches(*relevances)) < 1


@given(weights, st.data())
def test_weights_stay_positive_and_sum_to_one(
    given_: dict[LegName, float], data: st.DataObject
) -> None:
    found = {leg: matches(*data.draw(st.lists(st.floats(0, 1)))) for leg in given_}
    clear = by_clarity(given_, found)
    assert sum(clear.values()) == pytest.approx(1)
    assert min(clear.values()) > 0


@given(weights, st.floats(0, 1))
def test_where_no_leg_stands_out_the_weights_keep_their_proportions(
    given_: dict[LegName, float], relevance: float
) -> None:
    clear = by_clarity(given_, dict.fromkeys(given_, matches(*[relevance] * DEPTH)))
    total = sum(given_.values())
    assert clear == pytest.approx({leg: weight / total for leg, weight in given_.items()})


@given(st.sampled_from(LEGS), st.floats(0.1, 1), st.floats(0, 0.05))
def test_a_leg_that_stands_out_more_never_loses_weight(
    leg: LegName, clear: float, more: float
) -> None:
    even = dict.fromkeys(LEGS, 0.2)
    found = {one: matches(0.5) for one in LEGS}
    less = by_clarity(even, found | {leg: matches(clear)})
    greater = by_clarity(even, found | {leg: matches(min(1.0, clear + more))})
    assert greater[leg] >= less[leg] - 1e-12


def test_a_rare_word_does_not_outweigh_what_sentences_mean() -> None:
    found = {"speech": matches(0.5, *[0.3] * 9), "keyword": matches(0.6)}
    clear = by_clarity({"speech": 0.7, "keyword": 0.3}, found)  # type: ignore[arg-type]
    assert clear["speech"] > 0.7


def test_the_leg_that_knows_the_answer_takes_over() -> None:
    found = {"speech": matches(0.9, 0.2), "sound": matches(*[0.9] * 12)}
    clear = by_clarity({"speech": 0.5, "sound": 0.5}, found)  # type: ignore[arg-type]
    assert clear["speech"] > 0.95
