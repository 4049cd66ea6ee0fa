"""What an evaluation came to: ranks by query type and ranking, their measures, two runs beside
each other. Pure.
"""

from collections.abc import Mapping, Sequence

import msgspec

from gateway.errors import InvalidRequest
from gateway.schemas import Hit, LegName
from training.evaluation.bootstrap import MISSED, Comparison, Measures, compare_runs, measure
from training.world.captions import KINDS, Kind

Ranking = str  # a leg, or SEARCH
SEARCH: Ranking = "search"  # all legs in their default weights
LEAST_OVERLAP = 0.5  # of the right segment that an answer must be over
ALL = "all"  # every kind of query together

# The legs that can know the answer to a kind of query; a search is asked everything.
LEGS_OF: Mapping[Kind, tuple[LegName, ...]] = {
    "object": ("visual", "fused"),
    "colour": ("visual", "fused"),
    "motion": ("visual", "fused"),
    "sound": ("sound", "fused"),
    "speech": ("speech", "keyword", "fused"),
    "mixed": ("visual", "sound", "speech", "keyword", "fused"),
}


class Question(msgspec.Struct, frozen=True):
    """A query and the one moment that answers it."""

    name: str  # unique in its set
    kind: Kind
    text: str
    video: str  # file name
    start_s: float
    end_s: float


class Row(msgspec.Struct, frozen=True):
    """How one ranking answered one kind of query."""

    kind: str  # of query, or ALL
    ranking: Ranking
    measures: Measures


class Gain(msgspec.Struct, frozen=True):
    """How much better one ranking is than another at one kind of query, by nDCG@10."""

    kind: str
    ranking: Ranking
    over: Ranking
    comparison: Comparison


class EvalReport(msgspec.Struct, frozen=True, kw_only=True):
    """An evaluation; `ranks` are kept so that two can be compared query by query."""

    model_version: str
    seed: int
    segments: int  # of the set
    indexed_segments: int  # that the stack made of them
    pix: int  # of each video
    degraded: int  # answers that lack a leg
    rows: tuple[Row, ...]
    gains: tuple[Gain, ...]
    ranks: dict[Ranking, dict[str, int]]  # by ranking and question


def rankings_of(kind: Kind, legs: Sequence[LegName]) -> tuple[Ranking, ...]:
    """Return the rankings that a kind of query is asked of, where the stack has these legs."""
    return (*(leg for leg in LEGS_OF[kind] if leg in legs), SEARCH)


def answer_rank(hits: Sequence[Hit], ranking: Ranking, video_id: str, question: Question) -> int:
    """Return the rank of the right moment among hits that are segments; MISSED without it.

    In the ranking of a leg it is the leg's own rank, which neighbours and PIX do not change.
    """
    for place, hit in enumerate(hits, 1):
        if hit.video_id == video_id and is_over(question, hit.start_s, hit.end_s):
            return place if ranking == SEARCH else hit.moments[0].parts.legs[0].rank
    return MISSED


def is_over(question: Question, start_s: float, end_s: float) -> bool:
    """Say whether a span is over more than half of the right segment."""
    shared_s = min(end_s, question.end_s) - max(start_s, question.start_s)
    return shared_s > LEAST_OVERLAP * (question.end_s - question.start_s)


def rows_of(questions: Sequence[Question], ranks: Mapping[Ranking, Mapping[str, int]]) -> list[Row]:
    """Return the measures of each kind of query by each ranking, and of all by a search."""
    rows = []
    for kind in KINDS:
        asked = [question.name for question in questions if question.kind == kind]
        for ranking in (*LEGS_OF[kind], SEARCH):
            found = [ranks[ranking][name] for name in asked if name in ranks.get(ranking, {})]
            if found:
                rows.append(Row(kind, ranking, measure(found)))
    rows.append(Row(ALL, SEARCH, measure(list(ranks[SEARCH].values()))))
    return rows


def gains_of(
    questions: Sequence[Question], ranks: Mapping[Ranking, Mapping[str, int]]
) -> list[Gain]:
    """Return how the fused leg and the search do on mixed queries beside the visual leg."""
    mixed = {question.name for question in questions if question.kind == "mixed"}
    part = {
        ranking: {name: rank for name, rank in found.items() if name in mixed}
        for ranking, found in ranks.items()
    }
    return [
        Gain("mixed", ranking, "visual", compare_runs(part[ranking], part["visual"]))
        for ranking in ("fused", SEARCH)
        if part.get(ranking) and part.get("visual")
    ]


def compare_reports(new: EvalReport, old: EvalReport) -> list[tuple[Row, Comparison]]:
    """Compare two evaluations row by row on the same questions.

    Raises:
        InvalidRequest: they are of different sets.
    """
    if (new.seed, new.segments) != (old.seed, old.segments):
        raise InvalidRequest(
            f"the reports are of different sets: seed {new.seed} with {new.segments} segments, "
            f"and seed {old.seed} with {old.segments}"
        )
    return [
        (row, compare_runs(_of_kind(new, row), _of_kind(old, row)))
        for row in new.rows
        if _of_kind(old, row)
    ]


def _of_kind(report: EvalReport, row: Row) -> dict[str, int]:
    ranks = report.ranks.get(row.ranking, {})
    wanted = f"{row.kind} "
    return {
        name: rank for name, rank in ranks.items() if row.kind == ALL or name.startswith(wanted)
    }
