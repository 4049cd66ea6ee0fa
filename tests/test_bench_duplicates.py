from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from ensembles.arrays import FloatArray
from gateway.search.similar import DUPLICATE_COSINE
from loadtest.copies import SIZE_PX, write_copies
from loadtest.duplicates import (
    DuplicatesReport,
    duplicates_lines,
    least_of_copies,
    least_of_others,
    rates_of,
)

SECONDS = 2
FPS = 10
RATE_HZ = 16_000


def at(cosine: float) -> FloatArray:
    """A unit vector that has this cosine with (1, 0)."""
    return np.array([cosine, np.sqrt(1 - cosine**2)], np.float32)


def test_a_copy_is_as_near_as_the_nearest_of_its_segments_in_its_worst_leg() -> None:
    vectors = {
        "visual": {"a-0": at(1), "b-0": at(0.99), "b-1": at(0.98)},
        "speech": {"a-0": at(1), "b-0": at(0.5), "b-1": at(0.97)},
    }
    found = least_of_copies([(["a-0"], ["b-0", "b-1"]), (["a-0"], [])], vectors)  # type: ignore[arg-type]
    assert found == pytest.approx([0.97, -1], abs=1e-6)


def test_pairs_of_one_video_are_not_counted() -> None:
    vectors = {"visual": {"a-0": at(1), "a-5": at(1), "b-0": at(0.9)}}
    found = least_of_others(["a-0", "a-5", "b-0"], vectors)  # type: ignore[arg-type]
    assert found == pytest.approx([0.9, 0.9])


def test_rates_count_what_is_at_least_as_near_as_each_threshold() -> None:
    copies, others = np.array([0.99, 0.975, 0.9]), np.array([0.96, 0.1])
    rates = rates_of(copies.astype(np.float32), others.astype(np.float32))
    found = {rate.least_cosine: (rate.copies_found, rate.others_taken) for rate in rates}
    assert found[DUPLICATE_COSINE] == (2, 0)
    assert found[0.95] == (2, 1)
    assert found[0.98] == (1, 0)
    lines = duplicates_lines(DuplicatesReport("mini-1", 1, 2, 3, 2, rates))
    assert max(map(len, lines)) <= 80
    (ours,) = [line for line in lines if "search" in line]
    assert "0.97 " in ours
    assert "67%" in ours


def test_copies_are_smaller_and_as_long_with_sound_and_transcript(tmp_path: Path) -> None:
    original = tmp_path / "one.mp4"
    write_original(original)
    original.with_suffix(".srt").write_text("1\n00:00:00,000 --> 00:00:01,000\nhello\n")
    (copy,) = write_copies(tmp_path / "copies", [original])
    assert copy.with_suffix(".srt").read_text() == original.with_suffix(".srt").read_text()
    with av.open(str(copy)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.height, video.width) == SIZE_PX
        assert len(list(container.decode(video))) == SECONDS * FPS
        assert audio.codec_context.sample_rate == RATE_HZ
        assert container.duration is not None
        assert abs(container.duration / av.time_base - SECONDS) < 0.2
    assert copy.stat().st_size < original.stat().st_size
    before = copy.stat().st_mtime_ns
    assert write_copies(tmp_path / "copies", [original]) == [copy]
    assert copy.stat().st_mtime_ns == before


def write_original(path: Path) -> None:
    rng = np.random.default_rng(3)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.height, video.width, video.pix_fmt = 120, 160, "yuv420p"
        audio = container.add_stream("aac", rate=RATE_HZ, layout="mono")
        for number in range(SECONDS * FPS):
            picture = rng.integers(0, 255, (120, 160, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(picture)
            frame.pts, frame.time_base = number, Fraction(1, FPS)
            container.mux(video.encode(frame))
            samples = rng.normal(0, 0.1, (1, RATE_HZ // FPS)).astype(np.float32)
            sound = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
            sound.sample_rate, sound.pts = RATE_HZ, number * RATE_HZ // FPS
            sound.time_base = Fraction(1, RATE_HZ)
            container.mux(audio.encode(sound))
        container.mux(video.encode(None))
        container.mux(audio.encode(None))
