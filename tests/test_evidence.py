import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.index.rows import LEGS
from gateway.schemas import LegName
from gateway.search.calibrate import Match
from gateway.search.evidence import BEST, BORNE_OUT, UNHEARD, weigh_evidence

SAID = "someone explaining divorce law"


def match(segment: str, evidence: float, rank: int = 1, leg: LegName = "speech") -> Match:
    video = segment.rpartition("-")[0]
    return Match(segment, video, leg, evidence, evidence, evidence, evidence, rank)


def sentences(*videos: str, evidence: float = 0.3) -> tuple[Match, ...]:
    return tuple(match(f"{video}-{n}", evidence, n + 1) for n, video in enumerate(videos))


def proofs(leg: LegName, found: tuple[Match, ...], text: str = "") -> list[float]:
    return [one.evidence for one in weigh_evidence({leg: found}, text)[leg]]


def test_a_sentence_that_stands_alone_proves_its_relevance() -> None:
    assert proofs("speech", sentences("a", "b", "c", "d", "e")) == [0.3] * 5


def test_sentences_of_one_video_bear_each_other_out() -> None:
    shown = proofs("speech", sentences("a", "a", "b", "c", "d"))
    assert shown == pytest.approx([0.3 * (1 + BORNE_OUT / 4)] * 2 + [0.3] * 3)
    assert proofs("speech", sentences(*"aaaaa")) == pytest.approx([0.3 * (1 + BORNE_OUT)] * 5)


def test_only_the_best_sentences_bear_out() -> None:
    far = sentences(*"abcde", *"aaaa")
    assert proofs("speech", far)[: BEST + 4] == [0.3] * (BEST + 4)


def test_pictures_that_look_alike_do_not_bear_each_other_out() -> None:
    for leg in ("visual", "sound", "fused"):
        assert proofs(leg, sentences("a", "a", "a")) == [0.3] * 3


def test_a_word_proves_its_share_of_the_words_asked_for() -> None:
    assert proofs("keyword", sentences("a"), "bowline") == [0.3]
    assert proofs("keyword", sentences("a"), "the bowline knot") == [0.15]
    assert proofs("keyword", sentences("a"), "who") == [0.3]


def test_pictures_and_sounds_prove_little_of_what_is_said() -> None:
    assert proofs("fused", sentences("a"), SAID) == [0.3 * UNHEARD]
    assert proofs("speech", sentences("a"), SAID) == [0.3]
    assert proofs("fused", sentences("a"), f"a red car and {SAID}") == [0.3]
    assert proofs("fused", sentences("a"), f"the sound of a bell and {SAID}") == [0.3]


@given(
    st.dictionaries(st.sampled_from(LEGS), st.lists(st.sampled_from("abc"), max_size=8)),
    st.floats(0, 1),
    st.text(max_size=40),
)
def test_evidence_stays_within_bounds_and_nothing_else_changes(
    videos: dict[LegName, list[str]], evidence: float, text: str
) -> None:
    found = {leg: sentences(*those, evidence=evidence) for leg, those in videos.items()}
    weighed = weigh_evidence(found, text)
    for leg, before in found.items():
        assert all(0 <= one.evidence <= 1 for one in weighed[leg])
        assert [(one.segment_id, one.strength, one.rank) for one in weighed[leg]] == [
            (one.segment_id, one.strength, one.rank) for one in before
        ]
