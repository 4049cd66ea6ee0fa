"""Retrieval figures of each leg, fusion rule, coherence, grouping and PIX weight. Pure."""

import math
from collections.abc import Sequence
from dataclasses import replace
from random import Random

import msgspec
from rich.box import SIMPLE_HEAD
from rich.table import Table

from gateway.search.group import group
from loadtest.fit_cutoff import CutoffFigures
from loadtest.gathering import Gathered, Split
from loadtest.ranking import DEFAULTS, Rules, ranked
from training.evaluation.bootstrap import MISSED, Measures, measure
from training.evaluation.evaluate import LEGS
from training.world.captions import KINDS

MADE_UP_PIX_SEED = 5
MOST_PIX = 20_000  # of a made-up budget: more than the law's cap
SEARCH = "search"
MEASURES = ("R@1", "R@10", "MRR", "nDCG@10", "95 %")


class Row(msgspec.Struct, frozen=True):
    """One way to rank, over all questions and by their kind."""

    name: str
    measures: Measures
    ndcg_10_by_kind: dict[str, float]


class QualityReport(msgspec.Struct, frozen=True):
    """All ways, over the same questions and candidates."""

    model_version: str
    seed: int
    segments: int
    questions: int
    rows: tuple[Row, ...]
    cutoff: CutoffFigures


def quality_rows(split: Split) -> list[Row]:
    """Return the figures of every way to rank a split."""
    rows = [_row(split, f"leg {leg}", Rules(leg=leg, coherence=0, pix_weight=0)) for leg in LEGS]
    plain = Rules(pix=made_up_pix(split.video_ids), pix_weight=0)
    budget = f"{DEFAULTS.pix_weight:g}"
    ways = {
        SEARCH: Rules(),
        "mode balanced": Rules(mode="balanced"),
        "rule rrf": Rules(fusion="rrf"),
        "rule minmax": Rules(fusion="minmax"),
        "without clarity": Rules(clarity=False),
        "without coherence": Rules(coherence=0),
        f"cut-off {DEFAULTS.cutoff:g}": Rules(cutoff=DEFAULTS.cutoff),
        f"PIX weight {budget}, made-up PIX": replace(plain, pix_weight=DEFAULTS.pix_weight),
        "PIX weight 0.5, made-up PIX": replace(plain, pix_weight=0.5),
    }
    rows += [_row(split, name, rules) for name, rules in ways.items()]
    rows.append(_row(split, "by video", Rules(), by_video=True))
    return rows


def made_up_pix(video_ids: frozenset[str]) -> dict[str, int]:
    """Return PIX for each video, evenly drawn by magnitude from 0 to MOST_PIX; seeded."""
    rng = Random(MADE_UP_PIX_SEED)  # noqa: S311 - reproducible on purpose
    return {
        video_id: int(math.expm1(rng.uniform(0, math.log1p(MOST_PIX))))
        for video_id in sorted(video_ids)
    }


def rank_of(one: Gathered, rules: Rules, *, by_video: bool = False) -> int:
    """Return the place of the right segment, or of its video; MISSED where it is not found."""
    found = ranked(one, rules)
    entries = group(found, "video" if by_video else "segment")
    right_videos = {segment_id.rpartition("-")[0] for segment_id in one.right}
    for place, entry in enumerate(entries, 1):
        is_right = entry.best.segment_id in one.right
        if is_right or (by_video and entry.video_id in right_videos):
            return place
    return MISSED


def _row(split: Split, name: str, rules: Rules, *, by_video: bool = False) -> Row:
    asked = [(one.question.kind, one) for one in split.answerable if one.question]
    places = [(kind, rank_of(one, rules, by_video=by_video)) for kind, one in asked]
    return Row(
        name=name,
        measures=measure([place for _, place in places]),
        ndcg_10_by_kind={
            kind: measure([place for of, place in places if of == kind]).ndcg_10.mean
            for kind in KINDS
            if any(of == kind for of, _ in places)
        },
    )


def quality_tables(report: QualityReport) -> tuple[Table, Table]:
    """Return the figures of each way to rank, and its nDCG@10 by kind of question.

    In percent, with the 95 % interval of nDCG@10; each is 80 characters wide at most.
    """
    asked = f"{report.questions} questions about {report.segments} segments, seed {report.seed}"
    measures = _table(f"{report.model_version}: {asked}, %", MEASURES)
    kinds = _table("nDCG@10 by kind of question, %", KINDS)
    for row in report.rows:
        measures.add_row(row.name, *_measured(row.measures))
        kinds.add_row(row.name, *(f"{100 * row.ndcg_10_by_kind.get(k, 0.0):.1f}" for k in KINDS))
    return measures, kinds


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("ranking")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _measured(found: Measures) -> Sequence[str]:
    shares = (found.recall_1, found.recall_10, found.mrr, found.ndcg_10)
    interval = f"{100 * found.ndcg_10.low:.1f}–{100 * found.ndcg_10.high:.1f}"
    return *(f"{100 * share.mean:.1f}" for share in shares), interval


def cutoff_line(figures: CutoffFigures) -> str:
    """Return what is to be said of a cut-off on one split."""
    kinds = ", ".join(f"{kind} {share:.1%}" for kind, share in figures.lost_by_kind.items())
    return (
        f"seed {figures.seed}, cut-off {figures.cutoff:g}: {figures.absent_empty:.1%} of "
        f"{figures.absent_queries} queries about absent things find nothing; {figures.lost:.1%} of "
        f"{figures.true_hits} true hits are lost ({kinds})"
    )
