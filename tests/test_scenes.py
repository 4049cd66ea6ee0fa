from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ingest.cuts import HASH_CUT, Looks, early_keyframes, soft_cuts, spikes, sudden_changes
from ingest.media import PacketIndex
from ingest.probe import probe, read_packets
from ingest.scenes import full_scenes, keyframe_scenes, scenes_of
from loadtest.bench_ingest_scenes import cuts_of, f1
from tests.media import Scene as Shot
from tests.media import cut_times_s, make_silent_video, make_video

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


def packets_of(sizes: Sequence[int], keyframes: set[int]) -> PacketIndex:
    count = len(sizes)
    return PacketIndex(
        ticks=np.arange(count, dtype=np.int64),
        times_s=np.arange(count) / 25,
        keyframes=np.isin(np.arange(count), list(keyframes)),
        sizes=np.array(sizes, np.int32),
        tick_s=1 / 25,
        end_s=count / 25,
    )


def test_keyframes_before_their_turn_are_early() -> None:
    packets = packets_of([100] * 700, {0, 250, 330, 580})
    assert early_keyframes(packets) == {330}


def test_keyframes_on_a_regular_grid_are_never_early() -> None:
    assert early_keyframes(packets_of([100] * 200, {0, 50, 100, 150})) == set()


def test_irregular_keyframes_are_all_early() -> None:
    assert early_keyframes(packets_of([100] * 300, {0, 61, 97, 188})) == {61, 97, 188}


def test_a_packet_far_larger_than_those_around_is_a_spike() -> None:
    sizes = [1000, *[100] * 99]
    sizes[40] = 900
    packets = packets_of(sizes, {0})
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
