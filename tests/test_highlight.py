import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.search.highlight import MAX_SPANS, highlights


def shown(text: str, query: str) -> list[str]:
    return [text[span.start : span.end] for span in highlights(text, query)]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("Put the loaf into the oven.", "oven", ["oven"]),
        ("Put the LOAF into the Oven.", "a loaf in an oven", ["LOAF", "Oven"]),
        ("We baked it; baking is fun, bakers bake.", "bake", ["baked", "baking", "bakers", "bake"]),
        ("She was running, he runs.", "run", ["running", "runs"]),
        ("He falls, they fall.", "falling", ["falls", "fall"]),
        ("Two cities, one city.", "city", ["cities", "city"]),
        ("Le café est là.", "cafe", ["café"]),
        ("start the art", "art", ["art"]),
        ("how do I make it", "how do I make it", []),
        ("", "oven", []),
        ("an oven", "", []),
    ],
)
def test_words_of_the_query_are_shown_whatever_their_ending(
    text: str, query: str, expected: list[str]
) -> None:
    assert shown(text, query) == expected


def test_the_number_of_spans_is_bounded() -> None:
    assert len(highlights("oven " * 1_000, "oven")) == MAX_SPANS


@given(st.text(max_size=300), st.text(max_size=100))
def test_spans_lie_in_the_text_in_order(text: str, query: str) -> None:
    end = 0
    for span in highlights(text, query):
        assert end <= span.start < span.end <= len(text)
        end = span.end
