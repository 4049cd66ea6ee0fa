import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.ranges import RangeNotSatisfiable, Span, is_unchanged, wanted_span


@pytest.mark.parametrize(
    ("header", "span"),
    [
        (None, None),
        ("", None),
        ("bytes=0-0", Span(0, 1)),
        ("bytes=0-99", Span(0, 100)),
        ("bytes=0-100000", Span(0, 100)),
        ("bytes=10-", Span(10, 100)),
        ("bytes=-10", Span(90, 100)),
        ("bytes=-1000", Span(0, 100)),
        ("Bytes= 5-9 ", Span(5, 10)),
        ("bytes=9-5", None),
        ("bytes=-", None),
        ("bytes=0-1,5-6", None),
        ("items=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0x1-2", None),
        ("bytes=1-2\r\nX: y", None),
        ("bytes=" + "9" * 30 + "-", None),
    ],
)
def test_one_range_is_taken_and_anything_else_means_the_whole_file(
    header: str | None, span: Span | None
) -> None:
    assert wanted_span(header, 100) == span


@pytest.mark.parametrize("header", ["bytes=100-", "bytes=100-200", "bytes=-0", "bytes=9999999-"])
def test_a_range_without_a_byte_of_the_file_cannot_be_satisfied(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable, match="100 bytes"):
        wanted_span(header, 100)


def test_an_empty_file_has_no_range() -> None:
    for header in ("bytes=0-", "bytes=-5"):
        with pytest.raises(RangeNotSatisfiable):
            wanted_span(header, 0)


@given(st.text(), st.integers(0, 1 << 40))
def test_whatever_a_client_sends_a_span_lies_in_the_file(header: str, size: int) -> None:
    try:
        span = wanted_span(f"bytes={header}", size)
    except RangeNotSatisfiable:
        return
    assert span is None or 0 <= span.begin < span.end <= size


@pytest.mark.parametrize(
    ("header", "unchanged"),
    [
        ('"a"', True),
        ('W/"a"', True),
        ('"b", "a"', True),
        ("*", True),
        ('"b"', False),
        (None, False),
    ],
)
def test_a_version_that_the_client_has_is_known_by_its_tag(
    header: str | None, *, unchanged: bool
) -> None:
    assert is_unchanged('"a"', header) is unchanged
