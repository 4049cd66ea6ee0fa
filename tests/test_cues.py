from gateway.search.cues import asks_for_speech


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


def test_a_text_as_long_as_a_query_may_be_is_read_at_once() -> None:
    assert not asks_for_speech("how " * 2_000)
    assert asks_for_speech("how to " * 2_000)
