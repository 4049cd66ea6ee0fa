import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.schemas import Modality, Video
from gateway.search.exposure import Audit, Placing, audit, exposure, placings
from tests.rankings import segment_hits

ready = Modality(percent=100, state="ready")


def video(video_id: str, creator_id: str = "anna", duration_s: float = 30.0) -> Video:
    return Video(
        id=video_id, creator_id=creator_id, title="", description="", category=None,
        language=None, tags=(), pix=0, state="ready", error=None, duration_s=duration_s,
        width=1, height=1, segments=1, visual=ready, audio=ready, transcript=ready,
        model_version=None, created_at="2026-01-01T00:00:00Z",
    )  # fmt: skip


def report(*answers: list[Placing], depth: int = 10) -> Audit:
    videos = {"a": video("a", "anna"), "b": video("b", "bob", 400.0)}
    return audit(answers, videos, depth=depth, pix_weight=0.2, pix_cap=100)


def test_a_place_is_worth_less_the_lower_it_is() -> None:
    assert exposure(1, 10) == 1
    assert exposure(3, 10) == pytest.approx(0.5)
    assert exposure(11, 10) == 0


def test_what_pix_moved_is_told_by_group() -> None:
    found = report([Placing("a", 100, 1, 2), Placing("b", 0, 2, 1)])
    rich, poor = found.by_pix
    assert (rich.group, poor.group) == ("100 to 1,000 PIX", "under 1 PIX")
    assert (rich.rank_change, rich.most_places_up, poor.most_places_down) == (1, 1, 1)
    assert rich.exposure > rich.exposure_without_pix
    assert [row.group for row in found.by_creator] == ["anna", "bob"]
    assert {row.group for row in found.by_length} == {"under 60 s", "300 to 1,200 s"}
    assert (found.reordered, found.rank_correlation) == (1, pytest.approx(1))


def test_queries_without_an_answer_count_but_move_nothing() -> None:
    found = report([], [])
    assert (found.queries, found.answered, found.reordered) == (2, 0, 0)
    assert (found.by_pix, found.rank_correlation) == ((), 0)


def test_a_video_that_is_gone_is_a_group_of_its_own() -> None:
    (row,) = report([Placing("gone", 5, 1, 1)]).by_creator
    assert (row.group, row.videos, row.exposure) == ("gone", 1, 1)


@given(st.lists(st.permutations(["a", "b", "c", "d"]), min_size=1, max_size=5))
def test_the_shares_of_all_groups_sum_to_one(orders: list[list[str]]) -> None:
    answers = [
        [Placing(name, 10 * place, place, place) for place, name in enumerate(order, 1)]
        for order in orders
    ]
    found = report(*answers)
    for rows in (found.by_pix, found.by_creator, found.by_category, found.by_length):
        assert sum(row.exposure for row in rows) == pytest.approx(1)
        assert sum(row.exposure_without_pix for row in rows) == pytest.approx(1)
        assert all(row.rank_change == 0 for row in rows)


def test_a_video_stands_where_its_best_segment_does_with_and_without_pix() -> None:
    hits = segment_hits({"a": 0.50, "b": 0.55}, pix={"a": 10_000, "b": 0})
    assert placings(hits) == [Placing("a", 10_000, 1, 2), Placing("b", 0, 2, 1)]
