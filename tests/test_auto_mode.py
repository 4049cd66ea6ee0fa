from typing import get_args

import pytest

from gateway.schemas import AskedMode, Mode
from gateway.search.auto_mode import asks_for_speech, mode_of


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("a red car at sunset", "vision_heavy"),
        ("Pictures of a striped cat", "vision_heavy"),
        ("a dog barking", "audio_heavy"),
        ("sound of rain", "audio_heavy"),
        ("how to fold the dough", "text_heavy"),
        ("she talks about volcanoes", "text_heavy"),
        ('"to be or not to be"', "text_heavy"),
        ("bread", "balanced"),
        ("a red bell ringing", "balanced"),
        ("", "balanced"),
        ("reduced redness blueprint", "balanced"),
        ("хлеб 面包", "balanced"),
    ],
)
def test_a_query_is_weighed_by_what_its_words_name(text: str, mode: Mode) -> None:
    assert mode_of("auto", text) == mode


@pytest.mark.parametrize("asked", get_args(Mode))
def test_a_mode_that_is_named_is_used_whatever_the_words(asked: Mode) -> None:
    assert mode_of(asked, "the sound of a red dog talking") == asked


def test_every_mode_can_be_asked_for() -> None:
    assert set(get_args(AskedMode)) == {*get_args(Mode), "auto"}


def test_a_text_as_long_as_a_query_may_be_is_read_at_once() -> None:
    assert mode_of("auto", "how " * 2_000) == "balanced"


def test_words_ask_for_speech_where_they_name_neither_a_look_nor_a_sound() -> None:
    assert asks_for_speech("someone explaining divorce law")
    assert not asks_for_speech("divorce law")
    assert not asks_for_speech("someone in a red shirt explaining divorce law")
    assert not asks_for_speech("someone explaining how a violin is tuned")
    assert not asks_for_speech("")


def test_words_ask_for_more_than_speech_where_they_name_more_than_who_speaks() -> None:
    assert asks_for_speech("a doctor talking about sleep")
    assert asks_for_speech("how do I tie a bowline")
    assert not asks_for_speech("a heart falling downwards and a pilot talking about the past")
    assert not asks_for_speech("a chef in a kitchen explains knives")
