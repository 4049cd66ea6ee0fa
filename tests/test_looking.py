import gc
import os
from itertools import chain
from pathlib import Path

import msgspec
import numpy as np
import pytest
from av import VideoFrame
from hypothesis import given
from hypothesis import strategies as st

from ingest.calls import Source
from ingest.keyframe_looks import (
    MAX_PARTS,
    PART_PICTURES,
    KeyframesWanted,
    keyframe_looks_inside,
    parts_of,
)
from ingest.looking import LOOK_ARRAYS, look
from ingest.probe import PROBE_LIMITS, probe, read_packets
from ingest.webp import PicturesWanted
from loadtest.bench_ingest_media import Recipe, made

TICKS = st.sets(st.integers(-100, 100_000), max_size=100)


@given(TICKS, TICKS, st.integers(1, MAX_PARTS))
def test_each_picture_is_in_one_part(keyframes: set[int], others: set[int], most: int) -> None:
    hinted = tuple(others - keyframes)
    parts = parts_of(KeyframesWanted(tuple(sorted(keyframes)), hinted, most_parts=most))

    assert 1 <= len(parts) <= most
    assert sorted(chain.from_iterable(part.hinted for part in parts)) == sorted(hinted)
    assert list(chain.from_iterable(part.ticks for part in parts)) == sorted(keyframes)


def test_a_few_pictures_are_one_part() -> None:
    few = 2 * PART_PICTURES - 1
    assert len(parts_of(KeyframesWanted(ticks=tuple(range(few))))) == 1
    assert len(parts_of(KeyframesWanted(ticks=()))) == 1


@pytest.mark.usefixtures("sandbox")
def test_parts_tell_what_the_whole_tells(tmp_path: Path) -> None:
    path = made(Recipe(60.0, 144, "fixed"), tmp_path, lambda _: None)
    packets = read_packets(path, probe(path))
    keyframes = tuple(packets.ticks[packets.keyframes].tolist())
    others = tuple(packets.ticks[~packets.keyframes][::100].tolist())
    wanted = KeyframesWanted(keyframes, others[::-1], PicturesWanted(160, 5.0))
    assert len(parts_of(wanted)) == MAX_PARTS
    parted = look(path, wanted, PROBE_LIMITS)
    whole = look(path, msgspec.structs.replace(wanted, most_parts=1), PROBE_LIMITS)
    for one, other in zip(parted.looks, whole.looks, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(parted.predicted, whole.predicted)
    assert parted.picture_size == whole.picture_size
    assert list(parted.pictures) == sorted(parted.pictures)
    assert parted.pictures[min(keyframes)] == whole.pictures[min(keyframes)]


def test_pictures_that_were_looked_at_are_let_go(tmp_path: Path) -> None:
    path = made(Recipe(8.0, 144, "fixed"), tmp_path, lambda _: None)
    packets = read_packets(path, probe(path))
    hinted = tuple(packets.ticks[~packets.keyframes][::10].tolist())
    file = os.open(path, os.O_RDONLY)
    gc.collect()
    gc.disable()  # so that only what lets them go by itself does
    try:
        reply = keyframe_looks_inside(
            Source(file), msgspec.msgpack.encode(KeyframesWanted((), hinted))
        )
        left = sum(type(held) is VideoFrame for held in gc.get_objects())
    finally:
        gc.enable()
        os.close(file)
    assert len(reply.arrays[LOOK_ARRAYS]) == len(hinted) > 10
    assert left <= 1
