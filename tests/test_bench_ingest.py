from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest

from gateway.schemas import Modality, Video
from ingest.tokens import Tokens
from loadtest.bench_ingest_cost import Cpu, cpu_between, decode_everything
from loadtest.bench_ingest_kills import KillsReport, recipes
from loadtest.bench_ingest_media import FPS, Recipe, edges_s, made
from loadtest.bench_ingest_traces import TOKENS_APART, Trace, differences, tokens_apart

READY = Modality(percent=100, state="ready")


def keyframes_s(path: Path) -> list[float]:
    with av.open(str(path)) as container:
        packets = container.demux(container.streams.video[0])
        return [float(p.pts * p.time_base) for p in packets if p.is_keyframe and p.pts is not None]


def trace(**changes: object) -> Trace:
    video = Video(
        id="v", creator_id="c", title="t", description="", category=None, language=None, tags=(),
        pix=0, state="ready", error=None, duration_s=4.0, width=320, height=180, segments=1,
        visual=READY, audio=READY, transcript=READY, model_version="mini-1", created_at="",
    )  # fmt: skip
    made_of = Trace(video, (), {"visual": ["v-000000000"]}, "digest", tokens())
    return replace(made_of, **changes)  # type: ignore[arg-type]


def tokens(shift: float = 0.0, frames: int = 2) -> Tokens:
    zeros, ints = np.zeros(frames), np.zeros(frames, np.int32)
    rows = np.full((frames, 4), 0.5 + shift, np.float32)
    none = np.zeros((0, 4), np.float32)
    return Tokens(
        "mini-1", rows, zeros, ints, rows[:, 0], none, zeros[:0], ints[:0], none[:, 0],
        none, ints[:0], none[:, 0], zeros[:1], zeros[:1],
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["cuts", "fixed"])
def test_a_made_video_has_sound_and_the_keyframes_of_its_set(tmp_path: Path, kind: str) -> None:
    recipe = Recipe(duration_s=12.0, height_px=90, keyframes=kind, seed=3)  # type: ignore[arg-type]
    path = made(recipe, tmp_path, lambda _: None)
    with av.open(str(path)) as container:
        assert container.duration == pytest.approx(12_000_000, abs=100_000)
        assert (container.streams.video[0].height, len(container.streams.audio)) == (90, 1)
    cuts, keyframes = edges_s(recipe)[1:-1], keyframes_s(path)
    assert cuts
    if kind == "fixed":
        assert keyframes == pytest.approx([2.0 * i for i in range(6)])
    else:
        assert all(min(abs(cut - key) for key in keyframes) <= 1 / FPS for cut in cuts)


def test_a_video_is_made_once(tmp_path: Path) -> None:
    recipe = Recipe(duration_s=1.0, height_px=90)
    first = made(recipe, tmp_path, lambda _: None)
    before = first.stat().st_mtime_ns
    assert made(recipe, tmp_path, lambda _: None).stat().st_mtime_ns == before
    assert [path.name for path in tmp_path.iterdir()] == [recipe.name]


def test_everything_is_decoded_and_a_frame_kept_every_so_often(tmp_path: Path) -> None:
    path = made(Recipe(duration_s=4.0, height_px=90), tmp_path, lambda _: None)
    told = decode_everything(path, 1.0, 32)
    assert told.frames == 4
    assert told.cpu_s > 0


def test_small_videos_differ_and_are_the_same_for_the_same_seed() -> None:
    chosen = recipes(30, 1)
    assert chosen == recipes(30, 1)
    assert len({recipe.name for recipe in chosen}) == 30
    assert not set(chosen) & set(recipes(30, 2))


def test_two_rounds_that_came_to_the_same_have_no_differences() -> None:
    assert differences({"v": trace()}, {"v": trace(tokens=tokens(TOKENS_APART / 2))}) == []


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"rows": {"visual": []}}, "the rows differ"),
        ({"pictures": "other"}, "the pictures differ"),
        ({"tokens": tokens(2 * TOKENS_APART)}, "the tokens differ"),
        ({"tokens": tokens(frames=3)}, "the tokens differ"),
    ],
)
def test_what_differs_is_told(changes: dict[str, object], told: str) -> None:
    assert differences({"v": trace()}, {"v": trace(**changes)}) == [f"v: {told}"]
    assert differences({"v": trace()}, {}) == ["v: only in one of the rounds"]


def test_tokens_of_different_shapes_are_infinitely_apart() -> None:
    assert tokens_apart(tokens(), tokens(frames=1)) == float("inf")
    assert tokens_apart(tokens(), tokens()) == 0


def test_a_report_passes_only_where_nothing_is_wrong() -> None:
    good = KillsReport(
        videos=1, kills=1, seed=1, held_when_killed=1, undisturbed_s=1.0, disturbed_s=2.0,
        failed=(), differences=(), duplicates=0, findings=(), tokens_apart=0.0,
    )  # fmt: skip
    assert good.passed
    bad = KillsReport(
        videos=1, kills=1, seed=1, held_when_killed=1, undisturbed_s=1.0, disturbed_s=2.0,
        failed=(), differences=(), duplicates=1, findings=(), tokens_apart=0.0,
    )  # fmt: skip
    assert not bad.passed


def test_processor_time_is_what_was_used_in_between() -> None:
    before = Cpu(worker=1.0, pictures=2.0, sound=1.0, encoding=3.0, milvus=4.0, gateway=5.0)
    after = Cpu(worker=2.0, pictures=4.0, sound=1.5, encoding=6.0, milvus=4.0, gateway=5.5)
    used = cpu_between(before, after)
    assert (used.until_pixels, used.total) == (3.0, 7.0)
