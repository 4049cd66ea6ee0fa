import msgspec
from hypothesis import given
from hypothesis import strategies as st

from gateway.search.moments import JOIN_SHARE, MAX_MOMENTS, join, text_of
from tests.rankings import facts, of_video


def spans(fusions: dict[int, float], gap_s: float = 0.0) -> list[tuple[float, float]]:
    joined = join(of_video(fusions), facts(100, gap_s))
    return [(one.segments[0].start_s, one.segments[-1].end_s) for one in joined]


def test_neighbours_that_match_as_well_are_one_moment() -> None:
    (moment,) = join(of_video({3: 0.9, 4: 1.0, 5: 0.8}), facts(10))
    assert moment.best.segment_id == "v-000020000"
    assert [segment.index for segment in moment.segments] == [3, 4, 5]
    assert text_of(moment) == "text 3 text 4 text 5"


def test_a_neighbour_that_matches_much_less_is_a_moment_of_its_own() -> None:
    assert spans({3: 1.0, 4: 0.99 * JOIN_SHARE}) == [(15.0, 20.0), (20.0, 25.0)]


def test_segments_with_a_gap_between_them_are_not_joined() -> None:
    assert spans({3: 1.0, 5: 1.0}) == [(15.0, 20.0), (25.0, 30.0)]
    assert len(spans({3: 1.0, 4: 1.0}, gap_s=0.6)) == 2
    assert len(spans({3: 1.0, 4: 1.0}, gap_s=0.4)) == 1


def test_what_neighbours_both_say_is_there_once() -> None:
    same = {key: msgspec.structs.replace(fact, text="hm") for key, fact in facts(2).items()}
    (moment,) = join(of_video({0: 1.0, 1: 1.0}), same)
    assert text_of(moment) == "hm"


def test_segments_that_the_catalogue_does_not_have_are_left_out() -> None:
    (moment,) = join(of_video({0: 0.9, 7: 1.0}), facts(2))
    assert moment.best.segment_id == "v-000000000"


@given(st.dictionaries(st.integers(0, 99), st.floats(0.01, 1), max_size=30))
def test_moments_share_nothing_are_bounded_and_come_best_first(fusions: dict[int, float]) -> None:
    joined = join(of_video(fusions), facts(100))
    ids = [segment.segment_id for one in joined for segment in one.segments]
    assert len(ids) == len(set(ids))
    assert len(joined) <= MAX_MOMENTS
    scores = [one.best.score for one in joined]
    assert scores == sorted(scores, reverse=True)
    for one in joined:
        indices = [segment.index for segment in one.segments]
        assert indices == list(range(indices[0], indices[0] + len(indices)))
        assert one.best.segment_id in {segment.segment_id for segment in one.segments}
