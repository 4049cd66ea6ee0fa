import pytest

from ingest.transcripts.subtitles import Cue, segment_texts
from ingest.transcripts.words import Word, cues_of, inside


def words(*said: tuple[float, float, str]) -> list[Word]:
    return [Word(start_s, end_s, text, 0.9) for start_s, end_s, text in said]


def test_words_become_sentences_with_the_times_of_their_first_and_last_word() -> None:
    said = words((1.0, 1.2, " Knead"), (1.3, 1.9, " it."), (2.0, 2.4, " Then"), (2.5, 3.0, " rest"))
    assert cues_of(said) == (Cue(1.0, 1.9, "Knead it."), Cue(2.0, 3.0, "Then rest"))


def test_a_pause_ends_a_sentence_that_has_no_full_stop() -> None:
    said = words((0, 1, " one"), (1.5, 2, " two"), (3.2, 4, " three"))
    assert [cue.text for cue in cues_of(said)] == ["one two", "three"]


def test_a_sentence_without_an_end_is_parted() -> None:
    said = words(*((i * 0.5, i * 0.5 + 0.4, " word") for i in range(60)))
    cues = cues_of(said)
    assert len(cues) == 3
    assert all(cue.end_s - cue.start_s <= 10 for cue in cues)
    assert sum(len(cue.text.split()) for cue in cues) == 60


def test_words_of_a_language_without_spaces_are_joined_without_them() -> None:
    kneading = ("\u751f\u5730", "\u3092", "\u3053\u306d\u308b\u3002")
    said = words(*((i, i + 0.5, text) for i, text in enumerate(kneading)))
    assert [cue.text for cue in cues_of(said)] == ["".join(kneading)]


def test_each_sentence_goes_to_the_segment_in_which_it_is_said() -> None:
    said = words((0.5, 1, " Knead"), (1.2, 1.8, " it."), (2.2, 3, " Tune"), (3.1, 3.9, " that."))
    texts = segment_texts(cues_of(said), [(0, 2), (2, 4), (4, 6)], 6)
    assert texts == ("Knead it.", "Tune that.", "")


def test_a_word_that_begins_and_ends_at_once_is_still_said() -> None:
    (cue,) = cues_of(words((1, 1, " oh")))
    assert cue.end_s > cue.start_s


@pytest.mark.parametrize("text", ["", "  ", "\0"])
def test_what_has_no_letters_is_left_out(text: str) -> None:
    assert list(inside(words((1, 2, text)), 0, 10)) == []


def test_times_out_of_order_or_outside_are_put_right() -> None:
    said = words((5, 6, "a"), (4, 3, "b"), (8, 99, "c"), (50, 60, "d\0"))
    kept = list(inside(said, 4.5, 10))
    assert [(w.start_s, w.end_s, w.text) for w in kept] == [
        (5, 6, "a"),
        (5, 5, "b"),
        (8, 10, "c"),
        (10, 10, "d"),
    ]
