from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ingest.cuts import (
    HASH_CUT,
    Looks,
    cuts_at_dense_keyframes,
    cuts_at_early_keyframes,
    cuts_at_unpredicted,
    doubtful_changes,
    early_keyframes,
    hints,
    looked_keyframes,
    place_cuts,
    soft_cuts,
    spikes,
    sudden_changes,
)
from ingest.probe import probe, read_packets
from ingest.scenes import full_scenes, keyframe_scenes, scenes_of
from loadtest.bench_ingest_scenes import cuts_of, f1
from tests.media import Scene as Shot
from tests.media import cut_times_s, make_silent_video, make_video, packet_index
from training.evaluation.evaluate import written_set

SHOTS = (
    Shot("disc", (220, 60, 40), 330.0),
    Shot("gradient", (40, 200, 80), 880.0),
    Shot("checker", (60, 90, 230), 440.0),
    Shot("bars", (230, 220, 60), 660.0),
    Shot("disc", (80, 200, 220), 550.0),
)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.mp4", {"gop": 250}),
        ("b.mp4", {"gop": 25, "keyframes_at_cuts": False}),  # cuts within groups of pictures
        ("c.mp4", {"gop": 500, "keyframes_at_cuts": False}),  # a single keyframe
        ("d.mp4", {"gop": 250, "options": {"preset": "medium", "bf": "3"}}),
        ("e.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus"}),
        ("f.mov", {"video_codec": "libx265"}),
        ("g.webm", {"video_codec": "libvpx-vp9", "audio_codec": "libopus", "gop": 8}),
    ],
)
def test_both_tiers_find_hard_cuts(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = make_video(tmp_path / name, duration_s=11, scenes=SHOTS, **options)
    true = cut_times_s(11, SHOTS)
    info = probe(path)
    packets = read_packets(path, info)
    assert f1(cuts_of(keyframe_scenes(path, info, packets)), true) >= 0.85
    assert f1(cuts_of(full_scenes(path, info, packets)), true) >= 0.85


def test_one_shot_is_one_scene(tmp_path: Path) -> None:
    path = make_video(tmp_path / "a.mp4", scenes=(Shot("disc", speed=0.5),), gop=25)
    info = probe(path)
    packets = read_packets(path, info)
    for find in (keyframe_scenes, full_scenes):
        (scene,) = find(path, info, packets)
        assert (scene.start_s, scene.end_s) == (0.0, info.duration_s)


def test_motion_lies_between_0_and_1_and_a_still_has_less(tmp_path: Path) -> None:
    shots = (Shot("disc", speed=0.0), Shot("noise", (200, 200, 60), speed=3.0))
    path = make_video(tmp_path / "a.mp4", scenes=shots, duration_s=4)
    info = probe(path)
    packets = read_packets(path, info)
    for find in (keyframe_scenes, full_scenes):
        still, moving = find(path, info, packets)
        assert 0 <= still.motion < moving.motion <= 1


def test_scenes_fill_the_video_without_gaps(tmp_path: Path) -> None:
    path = make_silent_video(tmp_path / "a.mp4")
    info = probe(path)
    scenes = keyframe_scenes(path, info, read_packets(path, info))
    assert scenes[0].start_s == 0
    assert scenes[-1].end_s == info.duration_s
    for before, after in pairwise(scenes):
        assert before.end_s == after.start_s


def test_cuts_close_together_or_at_the_ends_are_one() -> None:
    scenes = scenes_of([0.2, 3.0, 3.3, 5.0, 9.8], 10.0, lambda _a, _b: 0.0)
    assert [(scene.start_s, scene.end_s) for scene in scenes] == [(0, 3.0), (3.0, 5.0), (5.0, 10.0)]


def test_keyframes_before_their_turn_are_early() -> None:
    packets = packet_index([100] * 700, {0, 250, 330, 580})
    assert early_keyframes(packets) == {330}


def test_keyframes_on_a_regular_grid_are_never_early() -> None:
    assert early_keyframes(packet_index([100] * 200, {0, 50, 100, 150})) == set()


def test_irregular_keyframes_are_all_early() -> None:
    assert early_keyframes(packet_index([100] * 300, {0, 61, 97, 188})) == {61, 97, 188}


def test_shots_of_one_length_are_no_grid_that_an_encoder_was_set_to() -> None:
    assert early_keyframes(packet_index([100] * 220, {0, 55, 110, 165})) == {55, 110, 165}
    assert early_keyframes(packet_index([100] * 1100, set(range(0, 1100, 55)))) == set()


def test_a_hint_is_larger_than_those_around_and_no_trifle_beside_a_keyframe() -> None:
    sizes = [1000, *[500] * 99]
    sizes[40], sizes[70] = 600, 560
    packets = packet_index(sizes, {0})
    assert hints(packets, 5).tolist() == [40, 70]
    assert hints(packets, 1).tolist() == [40]
    sizes[0] = 4000
    assert hints(packet_index(sizes, {0}), 5).tolist() == []


def test_keyframes_are_looked_at_where_they_are_early_or_far_from_the_one_before() -> None:
    grid = packet_index([100] * 1000, set(range(0, 1000, 50)))  # one in 2 s
    assert looked_keyframes(grid, 5.0, ()) == [0, 150, 250, 400, 500, 650, 750, 900]
    assert looked_keyframes(grid, 100.0, [120]) == [0, 100, 150]
    early = packet_index([100] * 800, {0, 250, 330, 580, 760})
    assert looked_keyframes(early, 100.0, ()) == [0, 250, 330, 580, 760]
    dense = packet_index([100] * 50, set(range(50)))
    assert looked_keyframes(dense, 5.0, ()) == [0, 13, 25, 38]


def test_a_packet_that_takes_little_from_others_is_a_cut() -> None:
    packets = packet_index([100] * 100, {0})
    found = cuts_at_unpredicted(packets, np.array([20, 50]), np.array([0.02, 0.95], np.float32))
    assert found == [20 / 25]


def test_a_cut_lies_among_the_frames_shown_before_the_packet_that_they_are_made_from() -> None:
    packets = packet_index([100] * 100, {0})
    order = np.arange(100)
    order[20:24] = [23, 21, 20, 22]  # as stored: the last one shown comes first
    packets = replace(packets, ticks=order, times_s=order / 25)
    found = cuts_at_unpredicted(packets, np.array([20]), np.array([0.0], np.float32))
    assert found == [22 / 25]


def test_an_early_keyframe_that_looks_as_the_one_before_is_no_cut() -> None:
    packets = packet_index([100] * 700, {0, 250, 330, 580})
    looks = keyframe_looks([0, 250, 330, 580], differ=[1, 2, 3])
    assert cuts_at_early_keyframes(looks, packets) == [330 / 25]
    assert cuts_at_early_keyframes(keyframe_looks([0, 250, 330, 580], differ=[]), packets) == []


def test_without_motion_a_spike_is_a_cut_and_a_smaller_hint_a_stretch_to_decode() -> None:
    sizes = [1000, *[300] * 99, 1000, *[300] * 99]
    sizes[40], sizes[150] = 900, 400
    packets = packet_index(sizes, {0, 100})
    hinted = hints(packets, 5)
    cuts, stretches = place_cuts(keyframe_looks([0, 100], differ=[1]), packets, hinted)
    assert (cuts, stretches) == ([40 / 25], [(100, 155)])
    cuts, _ = place_cuts(keyframe_looks([0, 100], differ=[]), packets, hinted)
    assert cuts == []


def test_a_sudden_change_between_dense_keyframes_is_doubtful() -> None:
    looks = looks_of([0, 2, 2, 30, 2, 2], [0, 0.01, 0.01, 0.3, 0.01, 0.01])
    assert doubtful_changes(looks, packet_index([100] * 6, set(range(6)))) == [(2, 3)]


def test_a_change_is_doubtful_where_regular_keyframes_are_too_few_to_be_sure() -> None:
    two = packet_index([100] * 100, {0, 50})
    assert doubtful_changes(keyframe_looks([0, 50], differ=[1]), two) == [(0, 50)]
    assert doubtful_changes(keyframe_looks([0, 50], differ=[]), two) == []
    five = packet_index([100] * 250, {0, 50, 100, 150, 200})
    assert doubtful_changes(keyframe_looks([0, 50, 100], differ=[1, 2]), five) == []


def test_among_dense_keyframes_an_early_one_must_stand_out_to_be_a_cut() -> None:
    """x264 asks less of a change the longer the last keyframe is ago, so movement brings them."""
    positions = [0, 10, 20, 30, 39, 48, 57, 66, 75, 85]
    packets = packet_index([100] * 95, set(positions))
    steady = keyframe_looks(positions, differ=range(1, 10))  # all move alike
    assert early_keyframes(packets) == {39, 48, 57, 66, 75}
    assert cuts_at_early_keyframes(steady, packets) == []
    changes = np.where(np.array(positions) == 57, 0.5, 0.1).astype(np.float32)
    assert cuts_at_early_keyframes(replace(steady, changes=changes), packets) == [57 / 25]


def test_a_change_that_nothing_looks_into_is_a_cut_only_among_dense_keyframes() -> None:
    dense = packet_index([100] * 100, set(range(0, 100, 10)))
    assert cuts_at_dense_keyframes([(20, 30), (70, 80)], dense) == [30 / 25, 80 / 25]
    assert cuts_at_dense_keyframes([(0, 50)], packet_index([100] * 100, {0, 50})) == []


def test_more_cuts_than_can_be_decoded_are_found_among_dense_keyframes(tmp_path: Path) -> None:
    """Files of the made-up world: ten pictures and a keyframe a second, another scene each 5 s."""
    written = written_set(tmp_path, 3, 40, lambda *_: None)
    for path in sorted({Path(one.video) for one in written}):
        info = probe(path)
        cuts = cuts_of(keyframe_scenes(path, info, read_packets(path, info)))
        true = sorted(one.start_s for one in written if Path(one.video) == path and one.start_s)
        assert f1(cuts, true) >= 0.9


def keyframe_looks(ticks: Sequence[int], differ: Sequence[int]) -> Looks:
    """Looks at 25 ticks a second, some of them unlike the one before."""
    bits = [HASH_CUT + 1 if i in differ else 0 for i in range(len(ticks))]
    looks = looks_of(bits, [0.1] * len(ticks))
    return replace(looks, ticks=np.array(ticks, np.int64), times_s=np.array(ticks) / 25)


def test_a_packet_far_larger_than_those_around_is_a_spike() -> None:
    sizes = [1000, *[100] * 99]
    sizes[40] = 900
    packets = packet_index(sizes, {0})
    assert spikes(packets, 0, 99) == [40 / 25]
    assert spikes(packets, 0, 30) == []


def looks_of(bits: Sequence[int], changes: Sequence[float]) -> Looks:
    """Looks whose hashes differ from the one before in so many bits, and brightness by so much."""
    hashes = np.zeros((len(bits), 64), np.uint8)
    for i in range(1, len(bits)):
        hashes[i] = hashes[i - 1]
        hashes[i, (7 * i + np.arange(bits[i])) % 64] ^= 1
    return Looks(
        ticks=np.arange(len(bits), dtype=np.int64),
        times_s=np.arange(len(bits)) / 5,
        hashes=hashes,
        colours=np.full((len(bits), 64), 1 / 64, np.float32),
        changes=np.array(changes, np.float32),
    )


def test_a_sudden_change_is_over_the_limit_of_bits_and_stands_out() -> None:
    bits = [0, 2, 2, HASH_CUT + 1, 2, 2, HASH_CUT + 1, 2]
    changes = [0, 0.01, 0.01, 0.2, 0.01, 0.01, 0.01, 0.01]
    assert sudden_changes(looks_of(bits, changes)) == [3 / 5]
    assert sudden_changes(looks_of([0, 2, HASH_CUT, 2], [0, 0.01, 0.2, 0.01])) == []


def test_movement_that_turns_bits_all_the_time_is_no_cut() -> None:
    assert sudden_changes(looks_of([0, *[14] * 20], [0, *[0.08] * 20])) == []


def test_a_gradual_change_is_a_cut_only_where_sound_sets_in() -> None:
    changes = [0.0] * 10 + [0.03, 0.03, 0.05, 0.03, 0.03] + [0.0] * 10
    looks = looks_of([0] * 10 + [8] * 5 + [0] * 10, changes)
    colours = np.zeros((25, 64), np.float32)
    fade = np.clip((np.arange(25) - 9) / 5, 0, 1)
    colours[:, 0], colours[:, 1] = 1 - fade, fade
    looks = Looks(looks.ticks, looks.times_s, looks.hashes, colours, looks.changes)
    assert soft_cuts(looks, np.array([2.4])) == [12 / 5]
    assert soft_cuts(looks, np.array([0.5])) == []
    assert soft_cuts(looks, np.zeros(0)) == []
