import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import CursorRefused
from gateway.schemas import Filters, SearchRequest
from gateway.search.cursor import Page, turn
from gateway.search.fuse import Fused
from gateway.search.group import Entry, group
from gateway.search.rerank import PixLaw, rerank
from tests.rankings import entries

ASKED = SearchRequest(query="a kite", limit=3)


def pages(all_: tuple[Entry, ...], limit: int, index: str = "mini-1") -> list[Page]:
    request = SearchRequest(query="a kite", limit=limit)
    turned = [turn(all_, request, index)]
    while turned[-1].next is not None:
        request = SearchRequest(query="a kite", limit=limit, cursor=turned[-1].next)
        turned.append(turn(all_, request, index))
    return turned


@given(st.integers(0, 40), st.integers(1, 100))
def test_the_pages_are_the_whole_list_and_none_is_empty(count: int, limit: int) -> None:
    all_ = entries(count)
    turned = pages(all_, limit)
    assert [entry for page in turned for entry in page.entries] == list(all_)
    assert all(page.entries for page in turned) or count == 0


def test_what_is_added_before_is_not_repeated_and_what_is_gone_is_stepped_over() -> None:
    all_ = entries(9)
    first = turn(all_, ASKED, "mini-1")
    again = SearchRequest(query="a kite", limit=3, cursor=first.next)
    (new,) = group(
        rerank([Fused("new-000000000", "new", (), 1.0)], {}, {"new": 0}, PixLaw(0.2, 100)), "video"
    )
    assert turn((new, *all_), again, "mini-1").entries == all_[3:6]
    gone = tuple(entry for entry in all_ if entry != all_[2])
    assert turn(gone, again, "mini-1").entries == gone[3:6]


def test_a_page_may_be_larger_than_the_one_before_and_the_deadline_another() -> None:
    first = turn(entries(9), ASKED, "mini-1")
    larger = SearchRequest(query="a kite", limit=5, deadline_ms=7, cursor=first.next)
    assert turn(entries(9), larger, "mini-1").entries == entries(9)[3:8]


@pytest.mark.parametrize(
    "other",
    [
        {"query": "a boat"},
        {"query": "a kite", "group": "segment"},
        {"query": "a kite", "filters": Filters(category=("music",))},
        {"query": "a kite", "pix_weight": 0.5},
        {"query": "a kite", "image": b"x"},
        {"query": "a kite", "sort": "date"},
        {"query": "a kite", "cutoff": 0.1},
    ],
)
def test_a_cursor_of_another_query_is_refused(other: dict[str, object]) -> None:
    cursor = turn(entries(9), ASKED, "mini-1").next
    with pytest.raises(CursorRefused, match="another query"):
        turn(entries(9), SearchRequest(cursor=cursor, **other), "mini-1")  # type: ignore[arg-type]


def test_a_cursor_of_another_index_is_refused_and_the_message_says_what_to_do() -> None:
    cursor = turn(entries(9), ASKED, "mini-1").next
    request = SearchRequest(query="a kite", cursor=cursor)
    with pytest.raises(CursorRefused, match=r"mini-1.*mini-2.*without a cursor"):
        turn(entries(9), request, "mini-2")


@given(st.text(max_size=200))
def test_any_text_that_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(CursorRefused, match="without one"):
        turn(entries(9), SearchRequest(query="a kite", cursor=text), "mini-1")


@given(st.data())
def test_a_changed_cursor_is_refused(data: st.DataObject) -> None:
    cursor = turn(entries(9), ASKED, "mini-1").next or ""
    body = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    body[data.draw(st.integers(0, len(body) - 1))] ^= data.draw(st.integers(1, 255))
    changed = base64.urlsafe_b64encode(body).decode()
    with pytest.raises(CursorRefused):
        turn(entries(9), SearchRequest(query="a kite", cursor=changed), "mini-1")
