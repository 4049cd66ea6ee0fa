"""What a client sends in place of a filter, an id, a cursor or a tag never means more than itself.

Each attempt goes the whole way: as JSON or as parameters, decoded, searched in the real engine and
the real catalogue. It is refused, or it finds just those videos that have that very value.
"""

import asyncio
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.api.decoding import decode_json, decode_query
from gateway.api.routes_search import SEARCH_QUERY
from gateway.doors import Doors
from gateway.errors import InvalidRequest, NotFound
from gateway.schemas import SearchReply, SearchRequest
from gateway.search.search import search
from tests.conftest import make_bundle
from tests.corpora import add_video, opened_doors

ALL = 100
VALUES = [
    "' or 1==1 or '",
    '" or 1==1 or "',
    '" or "" == "',
    '"] or 1==1 or video_id in ["',
    '"] or video_id != "" or category in ["',
    '") or true or ("',
    '", "victim',
    '","victim","',
    'x" or category != "x',
    'x" || category != "x',
    'x" and false or "1" == "1',
    'victim" //',
    'victim" --',
    'victim"; drop collection',
    "victim' --",
    "victim\\",
    'victim\\"',
    '\\" or 1==1 or \\"',
    '\\\\" or 1==1 or \\\\"',
    "\\u0022 or 1==1 or \\u0022",
    "\\x22 or 1==1 or \\x22",
    "\\42 or 1==1 or \\42",
    '\uff02 or 1==1 or "\uff02',
    "\u201d or 1==1 or \u201d",
    "%22%20or%201==1",
    "&quot; or 1==1",
    "%",
    "_",
    "%%victim%%",
    "like '%'",
    '" like "%',
    "victim%",
    "*",
    ".*",
    "{category}",
    "{0}",
    "$meta",
    '$ne": "',
    "category",
    "category != category",
    "ARRAY_CONTAINS(tags, 'victim')",
    '") or ARRAY_LENGTH(tags) > 0 or ("',
    "json_contains($meta, 1)",
    "null",
    "None",
    "true",
    "1",
    "0x1",
    "1e9",
    "[]",
    "()",
    "not victim",
    "victim and",
    "\u202evictim",
    "victim\u200b",
    "victi\u0301m",
    "VICTIM",
    " victim",
    "victim ",
    "\uff56\uff49\uff43\uff54\uff49\uff4d",
    "💥",
]
CONTROL = ["victim\x00", "a\nb", "a\r\nvictim", "\t", "\x1b[2J", "\x7f", "\x85"]
SHAPES = [
    b'{"query": "dough", "filters": {"category": {"$ne": ""}}}',
    b'{"query": "dough", "filters": {"category": [{"$ne": ""}]}}',
    b'{"query": "dough", "filters": {"category": [["victim"]]}}',
    b'{"query": "dough", "filters": {"category": "victim"}}',
    b'{"query": "dough", "filters": {"category": [null]}}',
    b'{"query": "dough", "filters": {"category": [true]}}',
    b'{"query": "dough", "filters": {"category": [""]}}',
    b'{"query": "dough", "filters": {"min_pix": "0 or 1==1"}}',
    b'{"query": "dough", "filters": {"min_pix": -1}}',
    b'{"query": "dough", "filters": {"min_duration_s": "0) or (1==1"}}',
    b'{"query": "dough", "filters": {"max_duration_s": "1e3"}}',
    b'{"query": "dough", "filters": {"created_after": "2026-01-01T00:00:00Z\' or 1=1 --"}}',
    b'{"query": "dough", "filters": {"created_before": "now()"}}',
    b'{"query": "dough", "filters": {"created_before": {"$gt": ""}}}',
    b'{"query": "dough", "filters": {"category == \\"\\" or video_id": ["victim"]}}',
    b'{"query": "dough", "filters": {"expr": "1==1"}}',
    b'{"query": "dough", "filters": "video_id != \\"\\""}',
    b'{"query": "dough", "filters": [["category", "!=", ""]]}',
    b'{"query": "dough", "expression": "1==1"}',
    b'{"query": "dough", "weights": {"visual; drop": 1}}',
    b'{"query": "dough", "group": "video\' or 1=1"}',
    b'{"query": "dough", "mode": "balanced; drop"}',
    b'{"query": "dough", "limit": "10; drop"}',
    b'{"query": "dough", "like": ["victim-000000000"]}',
    b'{"query": "dough", "like": {"$ne": ""}}',
]
PARAMETERS = [
    ("filters.category[]", "victim"),
    ("filters[category]", "victim"),
    ("filters.category.$ne", ""),
    ("filters.__class__", "victim"),
    ("filters.category or 1==1", "victim"),
    ("__proto__.category", "victim"),
    ("filters.min_pix", "0 or 1==1"),
    ("filters.min_pix", "0;drop"),
    ("filters.created_after", "2026-01-01' or '1'='1"),
    ("filters.max_duration_s", "1) or (1==1"),
    ("limit", "10 or 1==1"),
    ("group", "segment'--"),
]


class Corpus:
    """A video for each value, by the value as its category and as one of its tags, and a victim."""

    def __init__(self, uri: str, folder: Path) -> None:
        self._runner = asyncio.Runner()
        self._opened = opened_doors(make_bundle(), uri, folder)
        self.doors: Doors = self._runner.run(self._opened.__aenter__())
        self.runs(add_video(self.doors, "victim", ["dough"], category="victim", tags=("victim",)))
        for number, value in enumerate(VALUES):
            self.runs(
                add_video(self.doors, f"v{number}", ["dough"], category=value, tags=(value, "all"))
            )
        self.everything = self.found({"query": "dough"})

    def runs(self, work: Any) -> Any:
        return self._runner.run(work)

    def found(self, request: dict[str, Any]) -> set[str]:
        """The videos that a request in JSON finds."""
        return self.answered(decode_json(msgspec.json.encode(request), SearchRequest))

    def answered(self, request: SearchRequest) -> set[str]:
        many = msgspec.structs.replace(request, limit=ALL)
        reply: SearchReply = self.runs(search(many, self.doors, self.doors.settings))
        assert reply.degraded == ()
        return {hit.video_id for hit in reply.hits}

    def close(self) -> None:
        self._runner.run(self._opened.__aexit__(None, None, None))
        self._runner.close()


@pytest.fixture(scope="module")
def corpus(milvus_uri: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Corpus]:
    opened = Corpus(milvus_uri, tmp_path_factory.mktemp("injection"))
    yield opened
    assert opened.found({"query": "dough"}) == opened.everything, "an attempt changed the corpus"
    opened.close()


def test_the_corpus_has_something_to_steal(corpus: Corpus) -> None:
    assert corpus.everything == {"victim", *(f"v{number}" for number in range(len(VALUES)))}


def test_there_are_over_two_hundred_attempts() -> None:
    strings = len(VALUES) + len(CONTROL)
    assert 7 * strings + len(SHAPES) + len(PARAMETERS) > 200


@pytest.mark.parametrize("field", ["category", "tags"])
@pytest.mark.parametrize("value", VALUES)
def test_a_free_value_finds_its_own_video_alone(corpus: Corpus, field: str, value: str) -> None:
    own = {f"v{VALUES.index(value)}"}
    assert corpus.found({"query": "dough", "filters": {field: [value]}}) == own
    parameters = [("q", "dough"), (f"filters.{field}", value)]
    assert corpus.answered(decode_query(parameters, SEARCH_QUERY)) == own


@pytest.mark.parametrize("field", ["category", "tags"])
@pytest.mark.parametrize("value", CONTROL)
def test_what_no_value_may_hold_is_refused(corpus: Corpus, field: str, value: str) -> None:
    with pytest.raises(InvalidRequest):
        corpus.found({"query": "dough", "filters": {field: [value]}})


@pytest.mark.parametrize("field", ["creator_id", "video_id", "language"])
@pytest.mark.parametrize("value", [*VALUES, *CONTROL])
def test_an_id_is_refused_or_finds_nobody(corpus: Corpus, field: str, value: str) -> None:
    try:
        found = corpus.found({"query": "dough", "filters": {field: [value]}})
    except InvalidRequest:
        return
    assert found == set()
    assert re.fullmatch(r"[A-Za-z0-9_-]+", value)  # nothing else is an id


@pytest.mark.parametrize("value", [*VALUES, *CONTROL])
def test_a_segment_is_refused_or_not_there(corpus: Corpus, value: str) -> None:
    for like in (value, f"{value}-000000000", f'victim-000000000" or "{value}'):
        with pytest.raises((InvalidRequest, NotFound)):
            corpus.found({"like": like})


@pytest.mark.parametrize("value", [*VALUES, *CONTROL])
def test_a_cursor_that_no_page_gave_is_refused(corpus: Corpus, value: str) -> None:
    with pytest.raises(InvalidRequest, match="after"):
        corpus.doors.catalogue.library.page(value, 10)
    with pytest.raises(InvalidRequest, match="cursor"):
        corpus.found({"query": "dough", "cursor": value})


@pytest.mark.parametrize("value", [*VALUES, *CONTROL])
def test_excluded_words_only_ever_take_away(corpus: Corpus, value: str) -> None:
    try:
        found = corpus.found({"query": f'dough -"{value}" -{value}', "not": f"zebra {value}"})
    except InvalidRequest:
        return
    assert found <= corpus.everything


@pytest.mark.parametrize("body", SHAPES)
def test_a_filter_of_another_shape_is_refused(corpus: Corpus, body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        corpus.answered(decode_json(body, SearchRequest))


@pytest.mark.parametrize(("name", "value"), PARAMETERS)
def test_a_parameter_of_another_name_or_type_is_refused(
    corpus: Corpus, name: str, value: str
) -> None:
    with pytest.raises(InvalidRequest):
        corpus.answered(decode_query([("q", "dough"), (name, value)], SEARCH_QUERY))
