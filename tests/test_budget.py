from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensembles.contracts import AUDIO_WINDOW_S
from gateway.settings import Settings
from ingest.budget import (
    Span,
    allocate,
    base_frames,
    bounded_scenes,
    grid,
    join,
    paid_frames,
    part_at,
    pays_full_tier,
)
from ingest.chunks import runs_of
from ingest.exact_frames import EXACT_SHARE, MAX_UNSEEN_CELLS, SETTLED_S
from ingest.media import PacketIndex
from ingest.plan import Plan, modality_weights, plan_picture, plan_sound
from ingest.scenes import Scene, scenes_of
from tests.media import packet_index

FPS = 10


def packets_of(duration_s: float, key_every: int) -> PacketIndex:
    count = int(duration_s * FPS)
    return packet_index([100] * count, range(0, count, key_every), FPS)


@st.composite
def videos(draw: st.DrawFn) -> tuple[tuple[Scene, ...], PacketIndex, float]:
    duration_s = draw(st.integers(1, 300))
    cuts = draw(st.lists(st.floats(0, float(duration_s)), max_size=20))
    motions = draw(st.lists(st.floats(0, 1), min_size=21, max_size=21))
    scenes = scenes_of(cuts, float(duration_s), lambda a, _b: motions[int(a) % 21])
    return scenes, packets_of(duration_s, draw(st.integers(1, 300))), float(duration_s)


def planned(video: tuple[tuple[Scene, ...], PacketIndex, float], pix: int, **known) -> Plan:
    scenes, packets, duration_s = video
    settings = known.pop("settings", Settings())
    return plan_picture(scenes, packets, duration_s, pix, settings, sound=True, **known)


@given(
    st.integers(0, 500),
    st.lists(
        st.tuples(st.floats(0.01, 100), st.integers(0, 3), st.integers(0, 40)),
        min_size=1,
        max_size=30,
    ),
)
def test_allotments_sum_exactly_and_keep_their_bounds(
    total: int, takers: list[tuple[float, int, int]]
) -> None:
    weights = [weight for weight, _, _ in takers]
    least = [few for _, few, _ in takers]
    most = [few + more for _, few, more in takers]
    counts = allocate(total, weights, least, most)
    assert sum(counts) == min(total, sum(most))
    assert all(count <= bound for count, bound in zip(counts, most, strict=True))
    if total >= sum(least):
        assert all(count >= bound for count, bound in zip(counts, least, strict=True))


def test_the_longest_come_first_when_the_budget_is_short() -> None:
    assert allocate(2, [1.0, 5.0, 3.0], [1, 1, 1], [9, 9, 9]) == (0, 1, 1)


def test_what_is_left_goes_by_largest_remainder() -> None:
    assert allocate(10, [1.0, 1.0, 1.0], [1, 1, 1], [9, 9, 9]) == (4, 3, 3)
    assert allocate(10, [6.0, 3.0, 1.0], [0, 0, 0], [9, 9, 9]) == (6, 3, 1)
    assert allocate(10, [6.0, 3.0, 1.0], [0, 0, 0], [2, 9, 9]) == (2, 6, 2)


@given(videos(), st.integers(0, 5000))
def test_segments_fill_the_video_with_a_frame_each(video, pix: int) -> None:
    plan = planned(video, pix)
    edges = [plan.segments[0].start_s, *(segment.end_s for segment in plan.segments)]
    assert edges[0] == 0
    assert edges[-1] == pytest.approx(video[2])
    assert edges == sorted(edges)
    ticks = video[1].ticks.tolist()
    for segment in plan.segments:
        scene = plan.scenes[segment.scene_index]
        assert scene.start_s - 1e-6 <= segment.start_s < scene.end_s
        assert segment.start_s < segment.end_s
        assert all(segment.start_s <= tick / FPS < segment.end_s for tick in segment.frames)
        assert len(set(segment.frames)) == len(segment.frames)
        assert set(segment.frames) <= set(ticks)
        assert segment.frames or not any(
            segment.start_s <= tick / FPS < segment.end_s for tick in ticks
        )


def test_a_scene_without_keyframe_gets_the_frame_that_takes_the_fewest_packets() -> None:
    packets = packets_of(20, 10 * FPS)
    scenes = scenes_of([1.5, 10.0], 20.0, lambda _a, _b: 0.0)
    plan = planned((scenes, packets, 20.0), 0)
    (second,) = [segment for segment in plan.segments if segment.scene_index == 1]
    (frame,) = second.frames
    assert 1.5 + SETTLED_S <= frame / FPS < 1.5 + SETTLED_S + 1 / FPS
    order = packets.ticks.copy()
    order[16:20] = [19, 17, 16, 18]  # as stored: the last one shown comes first
    packets = replace(packets, ticks=order, times_s=order / FPS)
    plan = planned((scenes, packets, 20.0), 0)
    assert [s.frames for s in plan.segments if s.scene_index == 1] == [(19,)]


def test_without_pix_only_a_share_of_the_packets_is_decoded_for_exact_frames() -> None:
    packets = packets_of(600, 10 * FPS)
    scenes = scenes_of([n + 0.5 for n in range(1, 599)], 600.0, lambda _a, _b: 0.0)
    plan = planned((scenes, packets, 600.0), 0)
    runs = runs_of(packets, [tick for segment in plan.segments for tick in segment.frames])
    assert sum(last - first for first, last in runs) <= EXACT_SHARE * len(packets)
    exact_s = [s.start_s for s in plan.segments if s.frames[0] % (10 * FPS)]
    assert len(exact_s) >= 20
    assert 200 < sum(exact_s) / len(exact_s) < 400  # of all of the video, not of its beginning
    assert all(len(segment.frames) == 1 for segment in plan.segments)
    assert max(segment.end_s - segment.start_s for segment in plan.segments) < 11  # and not 30

    paid = planned((scenes, packets, 600.0), 10_000)
    assert len(paid.segments) == len(scenes)
    assert {s.start_s for s in plan.segments} < {s.start_s for s in paid.segments}


def test_in_a_short_video_each_scene_has_a_frame() -> None:
    packets = packets_of(20, 20 * FPS)
    scenes = scenes_of([1.0, 2.0, 3.0], 20.0, lambda _a, _b: 0.0)
    plan = planned((scenes, packets, 20.0), 0)
    assert [s.start_s for s in plan.segments[:4]] == [0.0, 1.0, 2.0, 3.0]


def test_where_keyframes_are_far_apart_segments_do_not_grow_without_end() -> None:
    packets = packets_of(600, 600 * FPS)
    scenes = scenes_of([], 600.0, lambda _a, _b: 0.0)
    plan = planned((scenes, packets, 600.0), 0)
    longest_s = max(segment.end_s - segment.start_s for segment in plan.segments)
    assert longest_s <= MAX_UNSEEN_CELLS * Settings().segment_s
    assert all(segment.frames for segment in plan.segments)


@given(videos(), st.integers(0, 3000), st.integers(0, 3000))
def test_more_pix_never_means_fewer_frames_nor_loses_a_segment(video, pix: int, more: int) -> None:
    before, after = planned(video, pix), planned(video, pix + more)
    assert after.frames >= before.frames
    starts = {segment.start_s for segment in after.segments}
    assert {segment.start_s for segment in before.segments} <= starts


@given(videos(), st.integers(0, 3000))
def test_frames_are_the_budget_unless_the_video_has_too_few(video, pix: int) -> None:
    settings = Settings()
    without = planned(video, 0).frames
    frames = planned(video, pix).frames
    assert frames <= without + paid_frames(pix, settings)
    room = sum(min(16, len(video[1])) for _ in planned(video, pix).segments)
    assert frames == min(without + paid_frames(pix, settings), frames if frames < room else room)


@given(videos())
def test_without_pix_frames_are_keyframes_wherever_there_are_some(video) -> None:
    _, packets, _ = video
    keys = packets.ticks[packets.keyframes].tolist()
    for segment in planned(video, 0).segments:
        inside = [key for key in keys if segment.start_s <= key / FPS < segment.end_s]
        if inside:
            assert set(segment.frames) <= set(inside)
        else:
            assert len(segment.frames) <= 1


@given(videos(), st.integers(1, 2000))
def test_weights_do_not_depend_on_how_much_pix_there_is(video, pix: int) -> None:
    once, twice = planned(video, pix), planned(video, 2 * pix)
    if len(once.segments) == len(twice.segments):
        np.testing.assert_allclose(
            [segment.weight for segment in once.segments],
            [segment.weight for segment in twice.segments],
        )


@given(videos(), st.integers(0, 2000))
def test_windows_of_sound_lie_in_the_video_and_do_not_overlap_in_a_segment(video, pix) -> None:
    for segment in planned(video, pix).segments:
        assert segment.windows_s
        assert all(0 <= at_s <= max(0.0, video[2] - AUDIO_WINDOW_S) for at_s in segment.windows_s)
        gaps = np.diff(segment.windows_s)
        assert (gaps >= AUDIO_WINDOW_S - 1e-6).all()


@given(videos())
def test_no_segment_has_more_frames_than_a_chunk(video) -> None:
    settings = Settings(max_chunk_frames=4)
    plan = planned(video, 100_000, settings=settings)
    assert max(len(segment.frames) for segment in plan.segments) <= 4


def test_the_budget_is_bounded() -> None:
    settings = Settings(max_frames=50)
    assert base_frames(10_000, settings) == 50
    assert paid_frames(10**9, settings) == 50
    video = (scenes_of([], 1000.0, lambda _a, _b: 0.0), packets_of(1000, 10), 1000.0)
    assert planned(video, 10**9, settings=settings).frames == 50
    many = (scenes_of(np.arange(1000.0), 1000.0, lambda _a, _b: 0.0), packets_of(1000, 10), 1000.0)
    assert planned(many, 0, settings=settings).frames <= 50


def test_motion_draws_frames() -> None:
    scenes = (Scene(0, 20, 0.0), Scene(20, 40, 1.0))
    plan = planned((scenes, packets_of(40, 10), 40.0), 200)
    frames = [0, 0]
    for segment in plan.segments:
        frames[segment.scene_index] += len(segment.frames)
    assert frames[1] > frames[0]
    assert plan.segments[-1].weight == pytest.approx(1.5 * plan.segments[0].weight)


def test_exact_frames_are_spread_over_the_segment() -> None:
    video = (scenes_of([], 5.0, lambda _a, _b: 0.0), packets_of(5, 1000), 5.0)
    (segment,) = planned(video, 30).segments
    times_s = np.array(segment.frames) / FPS
    assert len(times_s) == 4
    assert np.diff([0.0, *times_s, 5.0]).max() < 2.6


def test_cells_without_keyframes_are_joined_until_pix_pays_for_them() -> None:
    video = (scenes_of([], 60.0, lambda _a, _b: 0.0), packets_of(60, 150), 60.0)
    coarse = [segment.start_s for segment in planned(video, 0).segments]
    fine = [segment.start_s for segment in planned(video, 200).segments]
    assert coarse == [0, 15, 30, 45]
    assert fine == list(range(0, 60, 5))


def test_no_more_than_three_cells_are_joined() -> None:
    cells = tuple(Span(0, float(i), float(i + 1)) for i in range(7))
    joined = join(cells, np.array([0.5]), 3)
    assert [(span.start_s, span.end_s) for span in joined] == [(0, 3), (3, 6), (6, 7)]


def test_cells_take_in_the_next_ones_until_they_hold_something() -> None:
    cells = tuple(Span(0, float(i), float(i + 1)) for i in range(4))
    joined = join(cells, np.array([1.5, 2.5]), 3)
    assert [(span.start_s, span.end_s) for span in joined] == [(0, 2), (2, 4)]


def test_cells_of_two_scenes_are_never_joined() -> None:
    cells = (Span(0, 0.0, 5.0), Span(1, 5.0, 10.0))
    assert join(cells, np.array([1.0]), 3) == cells


def test_cuts_of_the_full_tier_part_cells() -> None:
    times_s = np.arange(0, 10, 0.1)
    parts = part_at((Span(0, 0.0, 5.0), Span(0, 5.0, 10.0)), [0.1, 2.0, 7.0], times_s)
    assert [span.start_s for span in parts] == [0.0, 2.0, 5.0, 7.0]


def test_full_tier_cuts_are_boundaries_where_pix_pays_for_them() -> None:
    scenes = scenes_of([], 20.0, lambda _a, _b: 0.0)
    full = scenes_of([7.0], 20.0, lambda _a, _b: 0.0)
    video = (scenes, packets_of(20, 10), 20.0)
    starts = {segment.start_s for segment in planned(video, 500, full=full).segments}
    assert starts == {0.0, 5.0, 7.0, 10.0, 15.0}


def test_the_full_tier_is_paid_for_by_a_frame_a_second() -> None:
    settings = Settings(frames_per_pix=0.1)
    assert not pays_full_tier(60, 599, settings)
    assert pays_full_tier(60, 600, settings)
    assert not pays_full_tier(60, 0, settings)


def test_scenes_are_joined_where_there_are_more_than_frames() -> None:
    settings = Settings(max_frames=20)
    scenes = scenes_of(np.arange(0, 100, 0.6), 100.0, lambda _a, _b: 0.2)
    few = bounded_scenes(scenes, 100.0, settings)
    assert len(few) <= 11
    assert (few[0].start_s, few[-1].end_s) == (0.0, 100.0)
    assert len(grid(few, 100.0, settings)) <= 21


def test_a_scene_is_cut_into_equal_cells() -> None:
    cells = grid((Scene(0, 12, 0.0), Scene(12, 14, 0.0)), 14, Settings(segment_s=5))
    assert [(c.start_s, c.end_s) for c in cells] == [(0, 6), (6, 12), (12, 14)]


@given(st.floats(0.1, 4000), st.integers(0, 10**6))
def test_sound_alone_has_segments_by_time_with_windows(duration_s: float, pix: int) -> None:
    plan = plan_sound(duration_s, pix, Settings())
    assert plan.frames == 0
    assert plan.windows >= len(plan.segments)
    assert plan.segments[-1].end_s == pytest.approx(duration_s)
    assert plan.windows <= Settings().max_frames


def test_a_category_makes_its_leading_modality_heavier() -> None:
    assert modality_weights("music").sound > modality_weights("music").text
    assert modality_weights("tutorial").text > modality_weights("tutorial").frames
    even = modality_weights("vlog")
    assert even.frames == even.sound == even.text == modality_weights(None).text
