"""The evaluation: ranks to reports, charts, long videos, and all of it through the real stack."""

import json
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest

from ensembles.build import MINI
from gateway.errors import InvalidRequest
from gateway.schemas import Hit, LegScore, Moment, ScoreParts
from tests.conftest import Demo
from tests.stacks import pixserve
from training.corpus import evaluation_set
from training.evaluation.bootstrap import Interval
from training.evaluation.long_videos import EVENT_S, SCENE_S, long_videos, scene
from training.evaluation.plots import bar_chart, line_chart
from training.evaluation.report import (
    EvalReport,
    Question,
    answer_rank,
    compare_reports,
    gains_of,
    is_over,
    rankings_of,
    rows_of,
)
from training.evaluation.tables import eval_chart, gain_lines
from training.models import mini_clip, mini_sound_encoder
from training.tuning.corpus_contest import contest_on_corpus
from training.tuning.fit import FitSettings
from training.tuning.strategies import STRATEGIES
from training.world.captions import KINDS
from training.world.scenes import SEGMENT_S

QUESTION = Question("object a.mp4 5", "object", "a red ring", "a.mp4", 5.0, 10.0)


def hit(video_id: str, start_s: float, end_s: float, leg_rank: int = 1) -> Hit:
    leg = LegScore(
        leg="visual",
        raw=0.5,
        relevance=0.5,
        evidence=0.5,
        strength=0.5,
        weight=1.0,
        part=0.5,
        rank=leg_rank,
    )
    parts = ScoreParts(
        legs=(leg,), fusion=0.5, coherence=0, relevance=0.5, evidence=0.5, pix=0, pix_gain=0,
        pix_weight=0.2, pix_boost=0, pix_cap=10_000, rank=1, rank_without_pix=1,
    )  # fmt: skip
    moment = Moment(
        segment_id=f"{video_id}-{round(1000 * start_s):09d}", start_s=start_s, end_s=end_s,
        score=0.5, text="", parts=parts,
    )  # fmt: skip
    return Hit(
        video_id=video_id, title="", creator_id="a", category=None, score=0.5, start_s=start_s,
        end_s=end_s, moments=(moment,),
    )  # fmt: skip


# ---- which answer is right


@pytest.mark.parametrize(
    ("span", "over"),
    [((5, 10), True), ((0, 10), True), ((7.4, 12), True), ((7.5, 12), False), ((0, 7.5), False),
     ((10, 15), False), ((6, 8.4), False)],
)  # fmt: skip
def test_an_answer_must_be_over_more_than_half_of_the_right_segment(
    span: tuple[float, float], over: bool
) -> None:
    assert is_over(QUESTION, *span) is over


def test_the_right_answer_has_its_place_in_a_search_and_the_legs_own_rank_in_a_leg() -> None:
    hits = [hit("v", 0, 5), hit("other", 5, 10), hit("v", 5, 10, leg_rank=7)]
    assert answer_rank(hits, "search", "v", QUESTION) == 3
    assert answer_rank(hits, "visual", "v", QUESTION) == 7
    assert answer_rank(hits[:2], "visual", "v", QUESTION) == 0


def test_a_kind_of_query_is_asked_of_the_legs_that_can_know_it() -> None:
    assert rankings_of("sound", ("sound", "keyword", "visual")) == ("sound", "search")
    assert rankings_of("object", ()) == ("search",)


# ---- reports


def questions() -> list[Question]:
    return [Question(f"{kind} {n}", kind, "", "v", 0, 1) for kind in KINDS for n in range(20)]


def report(shift: int = 0, **changes: object) -> EvalReport:
    asked = questions()
    ranks = {
        "search": {q.name: 1 + (n + shift) % 4 for n, q in enumerate(asked)},
        "visual": {q.name: 9 for q in asked if q.kind in ("object", "mixed")},
        "fused": {q.name: 2 for q in asked if q.kind in ("object", "mixed")},
    }
    made = EvalReport(
        model_version="mini-1", seed=1, segments=20, indexed_segments=20, pix=0, degraded=0,
        rows=tuple(rows_of(asked, ranks)), gains=tuple(gains_of(asked, ranks)), ranks=ranks,
    )  # fmt: skip
    return msgspec.structs.replace(made, **changes)


def test_a_report_has_a_row_a_kind_and_ranking_that_was_asked() -> None:
    rows = {(row.kind, row.ranking): row.measures for row in report().rows}
    expected = {(kind, "search") for kind in (*KINDS, "all")}
    expected |= {(kind, leg) for kind in ("object", "mixed") for leg in ("visual", "fused")}
    assert set(rows) == expected
    assert rows["object", "visual"].recall_10.mean == 1
    assert rows["object", "visual"].recall_5.mean == 0
    assert rows["all", "search"].queries == 120


def test_the_gain_of_fusion_is_told_for_mixed_queries() -> None:
    gains = {gain.ranking: gain.comparison for gain in report().gains}
    assert set(gains) == {"fused", "search"}
    relative = gains["fused"].relative
    assert relative is not None
    assert relative.mean == pytest.approx(1.0959, abs=1e-3)  # log2(10) / log2(3) - 1
    assert any("fused over visual: nDCG@10 +109" in line for line in gain_lines(report()))


def test_two_reports_are_compared_row_by_row() -> None:
    rows = compare_reports(report(), report(shift=1))
    assert [row for row, _ in rows] == list(report().rows)
    differences = {(row.kind, row.ranking): c.difference for row, c in rows}
    assert differences["object", "visual"] == Interval(0, 0, 0)
    better = compare_reports(report(), report(ranks={"search": {
        name: rank + 1 for name, rank in report().ranks["search"].items()}}))  # fmt: skip
    assert {row.ranking for row, _ in better} == {"search"}
    assert all(comparison.is_better for _, comparison in better)


def test_reports_of_different_sets_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="seed 1 with 20 segments, and seed 2"):
        compare_reports(report(), report(seed=2))


def test_a_report_survives_the_disk() -> None:
    assert msgspec.json.decode(msgspec.json.encode(report()), type=EvalReport) == report()


# ---- charts


def test_a_chart_is_self_contained_and_draws_what_it_was_given() -> None:
    drawing = ElementTree.fromstring(eval_chart(report()))
    tags = [element.tag.rpartition("}")[2] for element in drawing.iter()]
    assert not {"script", "image", "use", "style"} & set(tags)
    bars = len(KINDS) + 2 * 2  # search everywhere, two legs of two kinds
    assert tags.count("rect") == 1 + bars + 3  # background, bars, legend


def test_the_height_of_a_bar_is_its_value() -> None:
    series = {"a": {"x": Interval(1.0, 1.0, 1.0), "y": Interval(0.25, 0.2, 0.3)}}
    bars = [
        float(element.get("height", 0))
        for element in ElementTree.fromstring(bar_chart("t", ["x", "y"], series))
        if element.get("stroke") == "white"
    ]
    assert bars[1] == pytest.approx(bars[0] / 4, abs=0.1)


def test_names_cannot_break_out_of_a_drawing() -> None:
    nasty = "<script>&\"'"
    drawing = line_chart(nasty, [nasty], {nasty: {nasty: Interval(0.5, 0.4, 0.6)}})
    assert "<script>" not in drawing
    assert sum(element.text == nasty for element in ElementTree.fromstring(drawing).iter()) == 3


# ---- long videos


def test_a_scene_is_its_background_with_the_figure_for_a_moment() -> None:
    described = next(one for one in evaluation_set(3, 4) if one.segment.look.figure)
    before, event, after = scene(described, 7.3)
    assert [round(part.duration_s, 3) for part in (before, event, after)] == [7.3, EVENT_S, 11.2]
    assert before.look == after.look
    assert (before.look.figure, event.look.figure) == (None, described.segment.look.figure)
    assert before.look.background == event.look.background
    assert not any(part.sound or part.speech for part in (before, event, after))


def test_events_lie_within_one_segment_and_are_written_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.evaluation.long_videos.SCENES_A_VIDEO", 3)
    told: list[str] = []
    asked = long_videos(tmp_path, 1, 1, lambda what, *_: told.append(what))
    assert asked == long_videos(tmp_path, 1, 1, lambda *_: told.append("again"))
    assert "again" not in told
    assert asked
    for question in asked:
        cell = question.start_s // SEGMENT_S
        assert cell * SEGMENT_S < question.start_s < question.end_s < (cell + 1) * SEGMENT_S
        assert Path(question.video).stat().st_size > 0
    assert len({question.start_s // SCENE_S for question in asked}) > 1


# ---- the strategies on the corpus


def test_every_strategy_is_trained_and_judged_on_the_corpus(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.tuning.corpus_contest.load_clip", lambda dims: mini_clip(dims, 1))
    monkeypatch.setattr(
        "training.tuning.corpus_contest.load_sound", lambda dims: mini_sound_encoder(dims, 1)
    )
    wanted = FitSettings(epochs=1, batch=32)
    contest = contest_on_corpus(40, 20, wanted, lambda *_: None)
    assert [entry.strategy for entry in contest.entries] == list(STRATEGIES)
    assert {entry.measures.queries for entry in contest.entries} == {contest.pairs}
    mixed = [c for one in evaluation_set(1, 20) for c in one.captions if c.kind == "mixed"]
    assert contest.pairs == len(mixed)
    weights = {entry.strategy: entry.weights for entry in contest.entries}
    assert weights["visual-only"] == 0
    assert weights["weighted-sum"] == (MINI.audio + MINI.sentence + 2) * MINI.fused + 3
    overs = [entry.strategy for entry in contest.entries if entry.favourite_over is None]
    assert overs == ["cross-attention"]


# ---- through the real stack


@pytest.mark.live
def test_a_running_stack_is_evaluated_and_compared(demo: Demo, tmp_path: Path) -> None:
    where = ["--data-dir", str(demo.stack.data_dir)]
    few = ["--segments", "6", "--pix", "20"]
    out, plot = tmp_path / "report.json", tmp_path / "plot.svg"
    said = pixserve("eval", *where, *few, "--out", str(out), "--plot", str(plot))
    assert "6 segments (6 indexed)" in " ".join(said.split())
    found = json.loads(out.read_bytes())
    rows = {(row["kind"], row["ranking"]): row["measures"] for row in found["rows"]}
    assert rows["speech", "speech"]["recall_5"]["mean"] == 1
    assert found["degraded"] == 0
    ElementTree.fromstring(plot.read_text())
    again = pixserve("eval", *where, *few, "--compare", str(out))
    assert "difference" in again
