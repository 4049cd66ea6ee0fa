import asyncio
from collections.abc import Iterator

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensembles.bundle import Bundle
from gateway.errors import InvalidRequest
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.schemas import Filters
from gateway.search.filters import MAX_FILTER_VIDEOS, expression, quoted
from tests.conftest import make_bundle
from tests.corpora import index_row

T = 10.0

# What would leave the string, or mean something else, if it were not escaped.
HOSTILE = [
    '"',
    "'",
    "\\",
    'a"b',
    "a\\",
    "\\\\",
    '\\"',
    "\\n",
    "\\u0041",
    "\\x41",
    "\\101",
    "A",
    "n",
    '" or 1==1 or "',
    '"] or video_id != "',
    '", "b',
    "' or ''=='",
    "%",
    "_",
    "a%",
    "{x}",
    "$meta",
    "é",
    "e\u0301",
    "\u2028",
    "\u202e",
    "\ufeff",
    "😀",
    "// comment",
    "/* */",
    " ",
    "  ",
    "null",
    "true",
    "1",
]


class Engine:
    """The real engine with one segment for each hostile value."""

    def __init__(self, uri: str, bundle: Bundle) -> None:
        self.bundle = bundle
        self.runner = asyncio.Runner()
        self.door = Milvus(uri)
        self.runner.run(self.door.ensure_collections(bundle, timeout_s=T))
        rows = [self.row(number, value) for number, value in enumerate(HOSTILE)]
        self.runner.run(self.door.write(bundle, rows, timeout_s=T))

    def row(self, number: int, value: str) -> IndexRow:
        return index_row(
            f"v{number}",
            category=value,
            tags=(value, "all"),
            duration_s=float(number),
            visual=np.eye(1, 16, dtype=np.float32)[0],
        )

    def matches(self, text: str) -> set[str]:
        vector = np.eye(1, 16, dtype=np.float32)[0]
        found = self.runner.run(
            self.door.search_vector(
                self.bundle, "visual", vector, k=100, expression=text, timeout_s=T
            )
        )
        return {candidate.video_id for candidate in found}

    def close(self) -> None:
        self.runner.run(self.door.close())
        self.runner.close()


@pytest.fixture(scope="module")
def engine(milvus_uri: str) -> Iterator[Engine]:
    opened = Engine(milvus_uri, make_bundle())
    yield opened
    opened.close()


@pytest.mark.parametrize("value", HOSTILE)
def test_a_hostile_value_matches_itself_and_nothing_else(engine: Engine, value: str) -> None:
    itself = {f"v{HOSTILE.index(value)}"}
    assert engine.matches(expression(Filters(category=(value,)))) == itself
    assert engine.matches(expression(Filters(category=(value, "nothing")))) == itself
    assert engine.matches(expression(Filters(tags=(value, "all")))) == itself


@given(st.text(st.sampled_from("\"'\\ab n[](),=%|&é\u2028"), min_size=1, max_size=12))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_mixture_of_special_characters_matches_another_value(engine: Engine, value: str) -> None:
    itself = {f"v{HOSTILE.index(value)}"} if value in HOSTILE else set()
    assert engine.matches(expression(Filters(category=(value,)))) == itself
    assert engine.matches(expression(Filters(tags=(value,)))) == itself


@pytest.mark.parametrize("value", ["a\nb", "a\r", "\x00", "\t", "\x7f", "\x85", "\ud800"])
def test_what_the_grammar_cannot_hold_is_refused(value: str) -> None:
    with pytest.raises(InvalidRequest, match="filter's value"):
        quoted(value)


@given(st.text())
def test_a_quoted_value_ends_only_at_its_end(value: str) -> None:
    try:
        literal = quoted(value)
    except InvalidRequest:
        return
    assert literal[0] == literal[-1] == '"'
    inner = literal[1:-1].replace("\\\\", "").replace('\\"', "")
    assert '"' not in inner
    assert "\\" not in inner


def test_filters_are_joined_and_lists_mean_any_but_tags_mean_all(engine: Engine) -> None:
    filters = Filters(
        category=("é", "😀"),
        creator_id=("c", "d"),
        tags=("all",),
        min_duration_s=1,
        max_duration_s=1e300,
    )
    expected = {f"v{HOSTILE.index('é')}", f"v{HOSTILE.index('😀')}"}
    assert engine.matches(expression(filters)) == expected
    other = msgspec.structs.replace(filters, creator_id=("d",))
    assert engine.matches(expression(other)) == set()
    assert engine.matches(expression(Filters(language=("en",)))) == set()
    assert len(engine.matches(expression(Filters()))) == len(HOSTILE)


def test_durations_are_inclusive(engine: Engine) -> None:
    assert engine.matches(expression(Filters(min_duration_s=3, max_duration_s=3.0))) == {"v3"}
    assert engine.matches(expression(Filters(max_duration_s=1e-7))) == {"v0"}


def test_rich_videos_are_an_intersection_and_none_of_them_matches_nothing(engine: Engine) -> None:
    filters = Filters(video_id=("v1", "v2"), min_pix=5)
    assert engine.matches(expression(filters, ("v2", "v3"))) == {"v2"}
    assert engine.matches(expression(Filters(min_pix=5), ())) == set()


def test_the_engine_takes_as_many_videos_as_are_allowed(engine: Engine) -> None:
    videos = [f"w{number:013d}" for number in range(MAX_FILTER_VIDEOS - 1)]
    assert engine.matches(expression(Filters(), [*videos, "v1"])) == {"v1"}


@pytest.mark.parametrize(
    "filters",
    [
        Filters(min_duration_s=2, max_duration_s=1),
        Filters(min_duration_s=float("nan")),
        Filters(max_duration_s=-1),
    ],
)
def test_a_range_that_is_none_is_refused(filters: Filters) -> None:
    with pytest.raises(InvalidRequest):
        expression(filters)
