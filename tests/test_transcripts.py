from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.errors import InvalidRequest
from ingest.probe import probe
from ingest.transcripts.subtitles import (
    Cue,
    clean,
    packet_text,
    read_embedded,
    read_sidecar,
    segment_texts,
    sentences,
)
from tests.media import Cue as Line
from tests.media import make_video

# Enough of them for their encoding to be told.
WORDS_IN_FRENCH = (
    "Où est le café du garçon ? Il est déjà fermé, à côté de l'hôtel, près de la forêt. "
    "La crème brûlée était très bonne, et le maître d'hôtel l'a préférée à la tarte aux pêches."
)
SPANS = ((0.0, 5.0), (5.0, 10.0), (10.0, 15.0))


def srt(*cues: tuple[str, str, str]) -> bytes:
    blocks = [f"{i}\n{a} --> {b}\n{text}\n" for i, (a, b, text) in enumerate(cues, 1)]
    return "\n".join(blocks).encode()


def test_subrip_is_read() -> None:
    cues = read_sidecar(srt(("00:00:01,500", "00:01:02,000", "Hello\nworld")), "a.srt")
    assert cues == (Cue(1.5, 62.0, "Hello world"),)


def test_webvtt_is_read_with_settings_tags_and_notes() -> None:
    data = (
        b"WEBVTT\n\nNOTE a --> b\n\nintro\n00:01.000 --> 00:02.500 align:start\n"
        b"<v Ann><b>Hi</b> &amp; bye\n\n01:00:00.000 --> 01:00:01.000\nlate\n"
    )
    assert read_sidecar(data, "a.vtt") == (Cue(1.0, 2.5, "Hi & bye"), Cue(3600, 3601, "late"))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_common_encodings_are_read(encoding: str) -> None:
    words = "Žluťoučký kůň" if encoding != "cp1252" else WORDS_IN_FRENCH
    data = srt(("00:00:00,000", "00:00:01,000", words)).decode().encode(encoding)
    assert read_sidecar(data, "a.srt")[0].text == words


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"1\n00:00:aa --> 00:00:02,000\nhi\n", r"a\.srt, line 2"),
        (b"1\n00:00:01,000 --> \nhi\n", r"a\.srt, line 2"),
        (b"1\n00:00:05,000 --> 00:00:02,000\nhi\n", r"line 2: the cue ends before"),
        (b"just words\n", r"line 1: there is no cue"),
        (b"", r"there is no cue"),
        (bytes(range(256)) * 20, r"a\.srt"),
    ],
)
def test_a_broken_file_is_refused_and_its_line_named(data: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_sidecar(data, "a.srt")


def test_characters_that_no_database_stores_are_left_out() -> None:
    (cue,) = read_sidecar(b"1\n00:00:01,000 --> 00:00:02,000\na\0b\n", "a.srt")
    assert cue.text == "ab"


def test_a_name_with_a_path_is_shown_without_it() -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_sidecar(b"x", "../../etc/passwd.srt")
    assert ".." not in str(refused.value)


def test_cues_are_ordered_cleaned_and_rolling_captions_are_told_once() -> None:
    cues = clean(
        [
            Cue(4, 6, "first line\nsecond line"),
            Cue(2, 4, r"{\an8}<i>first</i> line"),
            Cue(7, 8, "  \n "),
            Cue(9, 9, "never shown"),
        ]
    )
    assert cues == (Cue(2, 4, "first line"), Cue(4, 6, "second line"))


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_an_embedded_track_is_read(tmp_path: Path, name: str) -> None:
    lines = (Line(0.5, 1.5, "hello there"), Line(2.0, 3.0, "Grüße"))
    path = make_video(tmp_path / name, duration_s=4, subtitles=lines)
    cues = read_embedded(path, probe(path), None)
    assert [cue.text for cue in cues] == ["hello there", "Grüße"]
    assert [cue.start_s for cue in cues] == pytest.approx([0.5, 2.0], abs=0.02)
    assert [cue.end_s for cue in cues] == pytest.approx([1.5, 3.0], abs=0.02)


def test_a_file_without_a_track_has_no_cues(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", duration_s=1)
    assert read_embedded(path, probe(path), "en") == ()


def test_the_words_of_a_packet_depend_on_its_codec() -> None:
    assert packet_text(b"\x00\x02hi\x00\x00\x00\x0cstyl", "mov_text") == "hi"
    assert packet_text(b"0,0,Default,,0,0,0,,well, hi", "ass") == "well, hi"
    assert packet_text(b"h\xff", "subrip") == "h\ufffd"


def test_a_sentence_over_several_cues_is_put_together() -> None:
    parts = [Cue(0, 2, "This sentence goes"), Cue(2, 4, "on here."), Cue(4, 5, "Next one.")]
    assert list(sentences(parts)) == [
        Cue(0, 4, "This sentence goes on here."),
        Cue(4, 5, "Next one."),
    ]


def test_a_long_cue_is_shared_among_its_sentences_by_length() -> None:
    first, second = sentences([Cue(0, 10, "Aaaa bbb. Cccc ddd.")])
    assert (first.text, second.text) == ("Aaaa bbb.", "Cccc ddd.")
    assert first.end_s == second.start_s == pytest.approx(5, abs=0.5)


def test_words_without_full_stops_are_parted_by_pauses_and_length() -> None:
    parts = list(sentences([Cue(i, i + 1, f"word{i}") for i in range(30)]))
    assert len(parts) == 3
    assert [p.text for p in sentences([Cue(0, 1, "one"), Cue(5, 6, "two")])] == ["one", "two"]


def test_a_sentence_belongs_to_the_segment_most_of_it_is_said_in() -> None:
    cues = [Cue(1, 3, "One."), Cue(4, 8, "Two."), Cue(12, 14, "Three."), Cue(14.5, 40, "Four.")]
    assert segment_texts(cues, SPANS, 15.0) == ("One.", "Two.", "Three. Four.")


def test_what_is_said_after_the_end_is_left_out() -> None:
    assert segment_texts([Cue(20, 22, "Late.")], SPANS, 15.0) == ("", "", "")


@given(
    st.lists(
        st.tuples(st.floats(0, 20), st.floats(0.01, 8), st.text("ab .", min_size=1, max_size=30)),
        max_size=12,
    )
)
def test_no_word_inside_the_video_is_lost_or_told_twice(
    raw: list[tuple[float, float, str]],
) -> None:
    cues = [Cue(start, start + length, text) for start, length, text in sorted(raw)]
    inside = [cue for cue in cues if cue.start_s < 15.0]
    texts = segment_texts(cues, SPANS, 15.0)
    letters = "".join(texts).replace(" ", "")
    expected = "".join(cue.text for cue in inside).replace(" ", "")
    assert sorted(letters) == sorted(expected)


def test_a_segment_has_no_more_text_than_an_encoder_takes() -> None:
    cues = [Cue(0.0, 1.0, "\u00e9" * 2_000 + ".") for _ in range(4)]
    (text,) = segment_texts(cues, [(0.0, 5.0)], 5.0)
    assert MAX_TEXT_BYTES - 2 <= len(text.encode()) <= MAX_TEXT_BYTES
