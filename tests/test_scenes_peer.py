"""Our scenes beside PySceneDetect's, on files whose cuts are known."""

from itertools import pairwise
from pathlib import Path

import pytest

from loadtest.bench_ingest_media import FPS, SHOT_S, Keyframes, Recipe, edges_s, made
from loadtest.bench_ingest_scenes import bench_scenes, f1, pooled

pytest.importorskip("scenedetect", reason="needs PySceneDetect", exc_type=ImportError)
pytestmark = pytest.mark.usefixtures("sandbox")

LEAST_OF_DEFAULT = 0.8


@pytest.mark.parametrize(("keyframes", "seed"), [("cuts", 1), ("fixed", 2)])
def test_the_full_tier_finds_cuts_as_well_as_pyscenedetect(
    tmp_path: Path, keyframes: Keyframes, seed: int
) -> None:
    recipe = Recipe(duration_s=40.0, height_px=144, keyframes=keyframes, seed=seed)
    report = bench_scenes(recipe, made(recipe, tmp_path, lambda _: None))
    assert report.cuts >= 4
    assert report.full.f1 >= max(report.content.f1, report.adaptive.f1)
    assert report.default.f1 >= LEAST_OF_DEFAULT
    both = pooled([report, report], "full")
    assert both.f1 == pytest.approx(report.full.f1)
    assert both.cpu_s == pytest.approx(2 * report.full.cpu_s)


@pytest.mark.parametrize("duration_s", [1.0, 4.0, 60.0])
def test_shots_are_whole_frames_and_fill_the_file(duration_s: float) -> None:
    edges = edges_s(Recipe(duration_s=duration_s))
    lengths = [b - a for a, b in pairwise(edges)]
    assert (edges[0], edges[-1]) == (0.0, duration_s)
    assert all(abs(edge * FPS - round(edge * FPS)) < 1e-6 for edge in edges)
    assert all(length >= SHOT_S[0] - 1e-6 for length in lengths) or len(lengths) == 1


@pytest.mark.parametrize(
    ("found", "true", "expected"),
    [
        ((), (), 1.0),
        ((1.0,), (), 0.0),
        ((), (1.0,), 0.0),
        ((1.1,), (1.0,), 1.0),
        ((1.3,), (1.0,), 0.0),
        ((1.1, 0.9), (1.0,), 2 / 3),
        ((1.0, 5.0), (1.0, 3.0), 0.5),
    ],
)
def test_f1_counts_each_cut_once(
    found: tuple[float, ...], true: tuple[float, ...], expected: float
) -> None:
    assert f1(found, true) == pytest.approx(expected)
