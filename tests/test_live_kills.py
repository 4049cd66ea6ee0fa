"""The worker is killed while it ingests: what comes of it is what comes of no kill."""

from pathlib import Path

import pytest

from loadtest.bench_ingest_kills import bench_kills, recipes
from loadtest.bench_ingest_media import made
from loadtest.stack import find_stack

pytestmark = [pytest.mark.live, pytest.mark.anyio]

VIDEOS, KILLS, SEED = 6, 2, 11


async def test_kills_at_random_moments_change_nothing(demo, tmp_path: Path) -> None:
    files = [made(recipe, tmp_path, lambda _: None) for recipe in recipes(VIDEOS, SEED)]
    told: list[str] = []
    report = await bench_kills(
        find_stack(demo.stack.data_dir), files, kills=KILLS, seed=SEED, progress=told.append
    )
    assert report.passed, report
    assert report.kills >= 1, told
