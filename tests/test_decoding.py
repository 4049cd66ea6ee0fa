import pytest

from gateway.api.decoding import Query, checked_id, decode_json, decode_query
from gateway.errors import InvalidRequest
from gateway.schemas import Filters, InvestmentRequest, LegWeights, SearchRequest

SEARCH = Query(SearchRequest, aliases={"q": "query"}, hidden=frozenset({"image"}))


def test_query_parameters_become_a_typed_request() -> None:
    pairs = [
        ("q", "bread"),
        ("limit", "5"),
        ("mode", "text_heavy"),
        ("pix_weight", "0.1"),
        ("filters.tags", "a"),
        ("filters.tags", "b"),
        ("filters.min_pix", "10"),
        ("weights.speech", "0.5"),
    ]
    assert decode_query(pairs, SEARCH) == SearchRequest(
        query="bread",
        limit=5,
        mode="text_heavy",
        pix_weight=0.1,
        filters=Filters(tags=("a", "b"), min_pix=10),
        weights=LegWeights(speech=0.5),
    )


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("limit", "-1", "limit"),
        ("limit", "ten", "limit"),
        ("limit", "1000", "limit"),
        ("mode", "loud", "mode"),
        ("pix_weight", "0.9", "pix_weight"),
        ("filters.min_pix", "-1", "min_pix"),
        ("filters.nothing", "1", "nothing"),
        ("filters", "1", "filters"),
        ("nothing", "1", "nothing"),
        ("nothing.else", "1", "nothing.else"),
        ("query", "x", "query"),
        ("image", "x", "image"),
        ("q", "second", "query: given more than once"),
    ],
)
def test_a_wrong_query_parameter_is_named(name: str, value: str, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        decode_query([("q", "bread"), (name, value)], SEARCH)


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "truncated"),
        (b"not json", "malformed"),
        (b"\xff\xfe", "malformed|invalid|utf-8"),
        (b"[]", "Expected `object`"),
        (b'{"pix": 1}', "key"),
        (b'{"pix": "1", "key": "k"}', r"\$\.pix"),
        (b'{"pix": 1.5, "key": "k"}', r"\$\.pix"),
        (b'{"pix": -1, "key": "k"}', r"\$\.pix"),
        (b'{"pix": 1e300, "key": "k"}', r"\$\.pix"),
        (b'{"pix": 1, "key": "a b"}', r"\$\.key"),
        (b'{"pix": 1, "key": "k", "more": 1}', "more"),
    ],
)
def test_a_wrong_body_is_refused_and_its_field_named(body: bytes, told: str) -> None:
    with pytest.raises(InvalidRequest, match=told):
        decode_json(body, InvestmentRequest)


@pytest.mark.parametrize("value", ["", "a/b", "..", "a b", "é", "x" * 65, "a\n", '"'])
def test_what_is_no_id_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="video_id"):
        checked_id(value, "video_id")


def test_an_id_passes() -> None:
    assert checked_id("h4kq2mzd7xw3aonb", "video_id") == "h4kq2mzd7xw3aonb"
