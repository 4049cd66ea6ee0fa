from itertools import combinations
from typing import get_args

import pytest
from rich.console import Console

from ensembles.bundle import Band
from gateway.errors import InvalidRequest
from gateway.index.rows import Candidate
from gateway.search.legs import Found
from loadtest.bench_quality import (
    QualityReport,
    made_up_pix,
    quality_rows,
    quality_tables,
    rank_of,
)
from loadtest.fit_cutoff import MOST_LOST, cutoff_figures, fit_cutoff
from loadtest.gathering import Gathered, Split
from loadtest.quality_commands import cutoff
from loadtest.ranking import Rules, ranked
from training.evaluation.bootstrap import MISSED
from training.evaluation.report import Question
from training.world.absent import Part, absent_queries, absent_things
from training.world.captions import KINDS

BANDS = {"speech": Band(low=0.0, high=1.0), "sound": Band(low=0.0, high=1.0)}


def gathered(text: str, right: str | None, **found: dict[str, float]) -> Gathered:
    """What legs found: cosines by segment and leg."""
    candidates = {
        leg: tuple(Candidate(s, s.rpartition("-")[0], raw) for s, raw in raws.items())
        for leg, raws in found.items()
    }
    question = Question(text, "speech", text, "v.mp4", 0, 5) if right else None
    return Gathered(
        text,
        question,
        frozenset([right]) if right else frozenset(),
        Found(candidates, (), 0, 0, BANDS),  # type: ignore[arg-type]
    )


def split(answers: dict[str, float], absent: dict[str, float]) -> Split:
    """Questions whose right segment, and absent ones whose best segment, has this cosine."""
    return Split(
        seed=1,
        segments=2,
        answerable=tuple(
            gathered(text, "a-000000000", speech={"a-000000000": raw, "b-000000000": 0.01})
            for text, raw in answers.items()
        ),
        absent=tuple(
            gathered(text, None, speech={"b-000000000": raw}) for text, raw in absent.items()
        ),
    )


def test_the_fitted_cutoff_is_the_highest_that_loses_few_true_hits() -> None:
    many = {f"q{n}": 0.5 + n / 250 for n in range(100)}
    to_fit = split(many, {})
    fitted = fit_cutoff(to_fit, Rules())
    figures = cutoff_figures(to_fit, Rules(), fitted)
    assert fitted == 0.51
    assert figures.lost == MOST_LOST
    assert cutoff_figures(to_fit, Rules(), fitted + 0.01).lost > MOST_LOST


def test_the_figures_tell_what_is_lost_and_which_absent_queries_are_answered() -> None:
    judged = split({"near": 0.9, "far": 0.2}, {"noise": 0.3, "trap": 0.8})
    figures = cutoff_figures(judged, Rules(), 0.5)
    assert (figures.true_hits, figures.lost, figures.lost_by_kind) == (2, 0.5, {"speech": 0.5})
    assert (figures.absent_empty, figures.answered) == (0.5, ("trap",))


def test_a_cutoff_is_not_judged_by_what_it_was_fitted_on() -> None:
    with pytest.raises(InvalidRequest, match="two seeds that differ"):
        cutoff(fit_seed=3, judge_seed=3)
    with pytest.raises(InvalidRequest, match="those of another"):
        cutoff(judge_part="fit")


def test_without_true_hits_nothing_can_be_fitted() -> None:
    with pytest.raises(InvalidRequest, match="no true hits"):
        fit_cutoff(split({}, {"noise": 0.3}), Rules())


def test_ranks_are_those_of_the_right_segment_or_of_its_video() -> None:
    one = gathered(
        "q", "a-000000000", speech={"a-000005000": 0.6, "b-000000000": 0.5, "a-000000000": 0.4}
    )
    plain = Rules(coherence=0)
    assert rank_of(one, plain) == 3
    assert rank_of(one, plain, by_video=True) == 1
    assert rank_of(one, Rules(coherence=0, cutoff=0.95)) == MISSED
    assert rank_of(one, Rules(leg="visual")) == MISSED


def test_rules_change_the_ranking_as_they_say() -> None:
    one = gathered(
        "q",
        "a-000000000",
        speech={"a-000000000": 0.5},
        sound={f"b-{n:09d}": 0.95 for n in range(20)},
    )
    assert ranked(one, Rules())[0].segment_id == "a-000000000"
    assert ranked(one, Rules(clarity=False))[0].segment_id != "a-000000000"
    assert ranked(one, Rules(leg="sound"))[0].video_id == "b"
    rich = Rules(clarity=False, pix={"a": 10**6}, pix_weight=0.5)
    boosts = {s.video_id: s.parts.pix_boost for s in ranked(one, rich)}
    assert boosts == {"a": 0.5, "b": 0.0}


def test_every_way_to_rank_has_a_row() -> None:
    rows = quality_rows(split({"near": 0.9, "far": 0.2}, {}))
    names = {row.name for row in rows}
    assert {"search", "rule rrf", "rule minmax", "leg speech", "by video"} <= names
    (best,) = [row for row in rows if row.name == "search"]
    assert best.measures.recall_1.mean == 1
    assert best.ndcg_10_by_kind == {"speech": 1}


def test_made_up_pix_is_the_same_each_time_and_differs_by_video() -> None:
    ids = frozenset(f"v{n}" for n in range(50))
    assert made_up_pix(ids) == made_up_pix(ids)
    assert len(set(made_up_pix(ids).values())) > 20


def test_the_tables_fit_into_80_columns_with_every_figure_in_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    judged = split({"near": 0.9, "far": 0.2}, {"noise": 0.3})
    report = QualityReport(
        model_version="base-balanced-12",
        seed=1_000,
        segments=100_000,
        questions=100_000,
        rows=tuple(quality_rows(judged)),
        cutoff=cutoff_figures(judged, Rules(), 0.6),
    )
    for table in quality_tables(report):
        Console(width=80).print(table)
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in printed
    for row in report.rows:
        assert len([line for line in lines if line.strip().startswith(row.name)]) == 2
    assert all(name in printed for name in (*KINDS, "R@1", "nDCG@10", "95 %"))


def test_the_absent_things_of_the_parts_have_nothing_in_common() -> None:
    parts = get_args(Part)
    for one, other in combinations(parts, 2):
        assert not set(absent_queries(one)) & set(absent_queries(other))
        for manner, things in absent_things(one).items():
            assert not set(things) & set(absent_things(other)[manner])
    for part in parts:
        asked = absent_queries(part)
        assert len(asked) == len(set(asked)) >= 108
