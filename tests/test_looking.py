from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import looking
from ingest.looking import MAX_PARTS, PART_PICTURES, look_in_parts, parts_of
from ingest.looks import KeyframesWanted
from ingest.probe import PROBE_LIMITS, probe, read_packets
from ingest.scenes import keyframe_scenes
from ingest.webp import PicturesWanted
from loadtest.bench_ingest_media import Recipe, made

TICKS = st.sets(st.integers(-100, 100_000), max_size=100)


@given(TICKS, TICKS)
def test_each_picture_is_in_one_part(keyframes: set[int], others: set[int]) -> None:
    hinted = tuple(others - keyframes)
    parts = parts_of(KeyframesWanted(ticks=tuple(sorted(keyframes)), hinted=hinted))

    assert 1 <= len(parts) <= MAX_PARTS
    assert sorted(chain.from_iterable(part.hinted for part in parts)) == sorted(hinted)
    first, *further = (part.ticks for part in parts)
    for before, ticks in zip((first, *further), further, strict=False):
        assert ticks[0] == before[-1]  # to be compared with
    looked = [*first, *chain.from_iterable(ticks[1:] for ticks in further)]
    assert looked == sorted(keyframes)


def test_a_short_video_is_one_part() -> None:
    assert len(parts_of(KeyframesWanted(ticks=tuple(range(PART_PICTURES))))) == 1
    assert len(parts_of(KeyframesWanted(ticks=()))) == 1


@pytest.mark.usefixtures("sandbox")
def test_parts_tell_what_the_whole_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(Recipe(60.0, 144, "fixed"), tmp_path, lambda _: None)
    info = probe(path)
    packets = read_packets(path, info)
    keyframes = tuple(packets.ticks[packets.keyframes].tolist())
    others = tuple(packets.ticks[~packets.keyframes][::100].tolist())
    wanted = KeyframesWanted(keyframes, others[::-1], PicturesWanted(160, 5.0))
    assert len(parts_of(wanted)) > 1
    parted, scenes = look_in_parts(path, wanted, PROBE_LIMITS), keyframe_scenes(path, info, packets)

    monkeypatch.setattr(looking, "MAX_PARTS", 1)
    whole = look_in_parts(path, wanted, PROBE_LIMITS)
    for one, other in zip(parted.looks, whole.looks, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(parted.predicted, whole.predicted)
    assert parted.picture_size == whole.picture_size
    assert list(parted.pictures) == sorted(parted.pictures)
    assert parted.pictures[min(keyframes)] == whole.pictures[min(keyframes)]
    assert keyframe_scenes(path, info, packets) == scenes
