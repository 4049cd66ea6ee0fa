from gateway.search.fuse import Fused
from gateway.search.group import MAX_SEGMENTS, group
from gateway.search.rerank import PixLaw, Scored, rerank

RANKED: tuple[Scored, ...] = rerank(
    [Fused("a-1", "a", (), 0.5), Fused("b-1", "b", (), 0.9), Fused("a-2", "a", (), 0.7)],
    {},
    {"a": 0, "b": 0},
    PixLaw(0.2, 100),
)


def test_a_video_has_one_entry_with_its_moments_best_first() -> None:
    entries = group(RANKED, "video")
    assert [entry.video_id for entry in entries] == ["b", "a"]
    assert [moment.segment_id for moment in entries[1].segments] == ["a-2", "a-1"]
    assert entries[1].score == 0.7


def test_a_segment_has_an_entry_of_its_own() -> None:
    entries = group(RANKED, "segment")
    assert [entry.best.segment_id for entry in entries] == ["b-1", "a-2", "a-1"]
    assert all(len(entry.segments) == 1 for entry in entries)


def test_a_video_brings_a_bounded_number_of_segments() -> None:
    many = rerank(
        [Fused(f"v-{n}", "v", (), 0.5) for n in range(50)], {}, {"v": 0}, PixLaw(0.2, 100)
    )
    (entry,) = group(many, "video")
    assert len(entry.segments) == MAX_SEGMENTS
