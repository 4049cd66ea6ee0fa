from typing import Any

import pytest

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.errors import InvalidRequest, TooLarge
from gateway.schemas import SearchRequest
from gateway.search.exclude import says
from gateway.search.query import MAX_QUERY_AUDIO_BYTES, MAX_QUERY_CLIP_BYTES, read_query
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
    with pytest.raises(TooLarge, match="clip"):
        read_query(SearchRequest(clip=bytes(MAX_QUERY_CLIP_BYTES + 1)), SETTINGS)
    with pytest.raises(InvalidRequest, match="image is empty"):
        read_query(SearchRequest(query="words", image=b""), SETTINGS)


def test_media_have_a_longer_deadline_and_the_client_may_set_its_own() -> None:
    assert read_query(SearchRequest(query="a"), SETTINGS).deadline_s == 0.1
    assert read_query(SearchRequest(query="a", image=b"x"), SETTINGS).deadline_s == 2
    assert read_query(SearchRequest(image=b"x", clip=b"x"), SETTINGS).deadline_s == 5
    assert read_query(SearchRequest(query="a", deadline_ms=7), SETTINGS).deadline_s == 0.007


@pytest.mark.parametrize(
    ("text", "asked", "excluded"),
    [
        ("bread -oven", "bread", ("oven",)),
        ("-oven  bread\n-Crème", "bread", ("oven", "Crème")),
        ('bread -"rise overnight" loaf', "bread loaf", ("rise overnight",)),
        ("bread -oven -oven", "bread", ("oven",)),
        ("bread -хлеб", "bread", ("хлеб",)),
        ("how-to bake - at -5 degrees --", "how-to bake - at -5 degrees --", ()),
        ('bread -""', 'bread -""', ()),
        ("bread -'; drop", "bread -'; drop", ()),
    ],
)
def test_a_minus_before_a_word_excludes_it(
    text: str, asked: str, excluded: tuple[str, ...]
) -> None:
    query = read_query(SearchRequest(query=text), SETTINGS)
    assert (query.text, query.excluded) == (asked, excluded)


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        ({"query": "-oven"}, "beside what is excluded"),
        ({"not_": "oven"}, "beside what is excluded"),
        ({"query": "bread OVEN -oven"}, "asks for 'oven' and excludes it"),
        ({"query": "a " + " ".join(f"-x{n}" for n in range(17))}, "16 are allowed"),
        ({"query": "a", "not_": "b\ud800"}, "not is not valid Unicode"),
        ({"query": "a", "own_video": False}, "own_video"),
    ],
)
def test_a_search_that_contradicts_itself_is_refused(request_: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        read_query(SearchRequest(**request_), SETTINGS)


def test_a_text_to_take_away_is_limited_like_the_query() -> None:
    with pytest.raises(TooLarge, match="not has"):
        read_query(SearchRequest(query="a", not_="é" * MAX_TEXT_BYTES), SETTINGS)


def test_a_segment_alone_is_a_query_and_tells_its_video() -> None:
    query = read_query(SearchRequest(like="a-b-000005000", own_video=False), SETTINGS)
    assert (query.like, query.like_video, query.own_video) == ("a-b-000005000", "a-b", False)
    assert query.deadline_s == 0.1


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("Start of it", "art", False),
        ("the ART of it", "art", True),
        ("crème brûlée", "Creme", True),
        ("let it rise overnight.", "rise overnight", True),
        ("rise, then overnight", "rise overnight", False),
        ("don't stop", "don't", True),
        ("", "a", False),
    ],
)
def test_words_are_said_whole_whatever_their_case_and_accents(
    text: str, phrase: str, expected: bool
) -> None:
    assert says(text, [phrase]) is expected
