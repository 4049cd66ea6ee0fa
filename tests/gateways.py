"""The real gateway as a process, with a real catalogue, and a real Milvus where one is given."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Band, Bundle, Capabilities, bundle_folder
from gateway.catalogue.catalogue import Catalogue
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.settings import Settings, settings_to_environment
from tests.conftest import SMALL, free_port
from tests.corpora import index_row, store

START_S = 30.0
STOP_S = 20.0
NOWHERE = "127.0.0.1:1"  # nothing listens here
BUNDLE = Bundle(
    profile="gateway",
    version=1,
    dims=SMALL,
    capabilities=Capabilities(words_to_pixels=False, words_to_sounds=False, fusion_trained=False),
    calibration={
        leg: Band(low=0.0, high=1.0) for leg in ("visual", "speech", "sound", "fused", "keyword")
    },
)


@dataclass(frozen=True)
class Gateway:
    """A gateway that runs."""

    url: str
    settings: Settings
    process: "subprocess.Popen[bytes]"
    log: Path

    def folders(self) -> tuple[set[str], set[str]]:
        """What is under uploads/ and videos/."""
        places = (self.settings.uploads_dir, self.settings.videos_dir)
        names = [{path.name for path in place.glob("*")} for place in places]
        return names[0], names[1]


def gateway_settings(data_dir: Path, milvus: str, **changes: object) -> Settings:
    """Settings of a gateway without Triton; the bundle's description is written beside."""
    told: dict[str, Any] = {"cutoff": 0.0} | changes  # a made-up bundle's bands fit no cut-off
    settings = Settings(
        data_dir=str(data_dir),
        profile=BUNDLE.profile,
        port=free_port(),
        triton=NOWHERE,
        milvus=milvus,
        **told,
    )
    folder = bundle_folder(settings.models_dir, BUNDLE.profile, BUNDLE.version)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bundle.json").write_bytes(msgspec.json.encode(BUNDLE))
    return settings


@contextmanager
def running_gateway(settings: Settings) -> Iterator[Gateway]:
    """Run the gateway; told to stop, it ends well and in time."""
    log = settings.data_path / "gateway.log"
    with log.open("ab") as output, start(settings, "gateway.serve", output) as process:
        url = f"http://{settings.host}:{settings.port}"
        try:
            wait_until_live(url, process, log)
            yield Gateway(url=url, settings=settings, process=process, log=log)
        finally:
            process.send_signal(signal.SIGTERM)
            ended = process.wait(STOP_S)
    assert ended in (0, -signal.SIGTERM, -signal.SIGKILL), log.read_text()


def start(settings: Settings, module: str, output: object) -> "subprocess.Popen[bytes]":
    variables = os.environ | settings_to_environment(settings)
    return subprocess.Popen(
        [sys.executable, "-m", module], env=variables, stdout=output, stderr=subprocess.STDOUT
    )


def wait_until_live(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health/live", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the gateway did not come up: {log.read_text()}")


def add_searchable(settings: Settings, video_id: str, texts: list[str], **metadata: object) -> str:
    """Put a video with these transcripts into catalogue and index, as the worker would."""
    catalogue = Catalogue(settings.database_url)
    store(catalogue, video_id, texts, **metadata)
    record = catalogue.analyses.record(video_id)
    rows = [
        index_row(
            video_id,
            5_000 * number,
            creator_id=record.creator_id,
            title=record.title,
            category=record.category,
            language=record.language,
            tags=record.tags,
            duration_s=record.duration_s,
            text=text,
            speech=unit(BUNDLE.dims.sentence),
        )
        for number, text in enumerate(texts)
    ]
    while job := catalogue.jobs.claim("test", lease_s=60):
        catalogue.jobs.finish(job)
    catalogue.close()
    asyncio.run(_write(settings, rows))
    return video_id


async def _write(settings: Settings, rows: list[IndexRow]) -> None:
    milvus = Milvus(settings.milvus)
    await milvus.ensure_collections(BUNDLE, timeout_s=10)
    await milvus.write(BUNDLE, rows, timeout_s=10)
    await milvus.close()


def unit(width: int) -> FloatArray:
    vector = np.zeros(width, dtype=np.float32)
    vector[0] = 1.0
    return vector
