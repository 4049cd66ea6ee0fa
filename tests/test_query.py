import pytest

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.errors import InvalidRequest, TooLarge
from gateway.schemas import SearchRequest
from gateway.search.query import MAX_QUERY_AUDIO_BYTES, read_query
from gateway.settings import Settings

SETTINGS = Settings(max_query_image_bytes=100, search_deadline_ms=100, media_deadline_ms=2_000)


@pytest.mark.parametrize("query", [None, "", " \t\n\u2003"])
def test_a_search_for_nothing_is_refused(query: str | None) -> None:
    with pytest.raises(InvalidRequest, match="empty"):
        read_query(SearchRequest(query=query), SETTINGS)


def test_words_are_stripped() -> None:
    assert read_query(SearchRequest(query="  a b\n"), SETTINGS).text == "a b"


def test_a_text_is_limited_in_bytes_not_characters() -> None:
    assert read_query(SearchRequest(query="a" * MAX_TEXT_BYTES), SETTINGS).text
    with pytest.raises(TooLarge, match=str(MAX_TEXT_BYTES)):
        read_query(SearchRequest(query="é" * (MAX_TEXT_BYTES // 2 + 1)), SETTINGS)


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="Unicode"):
        read_query(SearchRequest(query="a\ud800"), SETTINGS)


def test_media_over_their_limits_or_empty_are_refused() -> None:
    with pytest.raises(TooLarge, match="image"):
        read_query(SearchRequest(image=b"x" * 101), SETTINGS)
    with pytest.raises(TooLarge, match="audio"):
        read_query(SearchRequest(audio=bytes(MAX_QUERY_AUDIO_BYTES + 1)), SETTINGS)
    with pytest.raises(InvalidRequest, match="image is empty"):
        read_query(SearchRequest(query="words", image=b""), SETTINGS)


def test_media_have_a_longer_deadline_and_the_client_may_set_its_own() -> None:
    assert read_query(SearchRequest(query="a"), SETTINGS).deadline_s == 0.1
    assert read_query(SearchRequest(query="a", image=b"x"), SETTINGS).deadline_s == 2
    assert read_query(SearchRequest(query="a", deadline_ms=7), SETTINGS).deadline_s == 0.007
