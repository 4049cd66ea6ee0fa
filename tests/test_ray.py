"""The work of a bulk ingest on a Ray cluster that is started here; needs Ray Data."""

import asyncio
import importlib.util
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import ConfigurationError
from ingest.bulk_work import Work, analysed
from ingest.engines import Ray
from ingest.pipeline import AnalysisRequest
from tests.gateways import BUNDLE, NOWHERE, gateway_settings
from tests.media import make_text_file, make_video

has_ray = importlib.util.find_spec("ray") is not None
needs_ray = pytest.mark.skipif(not has_ray, reason="needs Ray Data: pip install 'pixserve[ray]'")


@pytest.fixture(scope="module")
def engine() -> Iterator[Ray]:
    engine = Ray("local", 1)
    yield engine
    engine.close()


@needs_ray
@pytest.mark.anyio
@pytest.mark.filterwarnings("ignore")  # of Ray's own code
async def test_ray_gives_what_the_work_gives_here(engine: Ray, tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}")
    paths = [make_text_file(tmp_path / "text.mp4"), make_video(tmp_path / "v.mp4", duration_s=2)]
    request = AnalysisRequest(video_id="v", pix=0, bundle=BUNDLE)
    works = [Work(path, request, settings) for path in paths]

    there = await asyncio.gather(*(engine.analysed(work) for work in works))

    here = [await asyncio.to_thread(analysed, work) for work in works]
    assert there == here
    assert [outcome.failure.kind for outcome in there if outcome.failure] == [
        "MediaRefused",
        "Unavailable",
    ]


@pytest.mark.skipif(has_ray, reason="Ray is installed")
def test_without_ray_the_way_to_get_it_is_told() -> None:
    with pytest.raises(ConfigurationError, match=r"pixserve\[ray\]"):
        Ray("local", 1)
