from hypothesis import given
from hypothesis import strategies as st

from gateway.schemas import LegScore
from gateway.search.cutoff import cut, cutoff_of
from gateway.search.fuse import Fused
from gateway.search.rerank import PixLaw, Scored, rerank


def speech(r: float) -> LegScore:
    return LegScore(
        leg="speech",
        raw=r,
        relevance=r,
        evidence=r,
        strength=r,
        weight=0.1,
        part=0.1 * r,
        rank=1,
    )


def ranked(*relevances: float, pix: int = 0) -> tuple[Scored, ...]:
    found = [
        Fused(
            f"v-{n}",
            "v",
            (speech(r),),
            0.1 * r,
        )
        for n, r in enumerate(relevances)
    ]
    return rerank(found, {}, {"v": pix}, PixLaw(0.5, 100))


def test_what_has_less_evidence_is_cut_and_can_be_seen() -> None:
    kept, dropped = cut(ranked(0.9, 0.1, 0.5), 0.5)
    assert [one.evidence for one in kept] == [0.9, 0.5]
    assert [round(one.evidence, 12) for one in dropped] == [0.1]


def test_beside_a_sure_hit_half_of_its_evidence_is_enough() -> None:
    kept, dropped = cut(ranked(0.6, 0.4, 0.2), 0.6)
    assert [round(one.evidence, 12) for one in kept] == [0.6, 0.4]
    assert [round(one.evidence, 12) for one in dropped] == [0.2]


def test_where_nothing_is_sure_nothing_answers() -> None:
    unsure = ranked(0.59, 0.55)
    assert cut(unsure, 0.6) == ((), unsure)


def test_words_alone_are_cut_only_where_that_is_asked_for() -> None:
    assert cutoff_of(None, 0.36, ["keyword"], words=True) == 0
    assert cutoff_of(0.5, 0.36, ["keyword"], words=True) == 0.5
    assert cutoff_of(None, 0.36, ["keyword", "speech"], words=True) == 0.36
    assert cutoff_of(0.0, 0.36, ["speech"], words=True) == 0


def test_the_default_is_lower_for_a_query_without_words() -> None:
    assert cutoff_of(None, 0.6, ["sound"], words=False) == 0.3
    assert cutoff_of(0.6, 0.6, ["sound"], words=False) == 0.6


@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_cutoff_never_shows_more_and_nothing_is_lost(
    relevances: list[float], a: float, b: float
) -> None:
    low, high = sorted((a, b))
    everything = ranked(*relevances)
    lenient, strict = cut(everything, low), cut(everything, high)
    assert set(strict[0]) <= set(lenient[0])
    assert sorted((*strict[0], *strict[1]), key=everything.index) == list(everything)
    assert cut(everything, 0) == (everything, ())


@given(st.lists(st.floats(0, 1), max_size=20), st.floats(0, 1), st.integers(0, 10**9))
def test_pix_brings_nothing_over_the_cutoff(
    relevances: list[float], cutoff: float, pix: int
) -> None:
    poor = {one.segment_id for one in cut(ranked(*relevances), cutoff)[0]}
    assert {one.segment_id for one in cut(ranked(*relevances, pix=pix), cutoff)[0]} == poor
