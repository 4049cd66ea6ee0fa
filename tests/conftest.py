"""What tests share: real parts, started once a session."""

import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import hypothesis
import pytest

from deploy.demo.render import DemoVideo, render_all
from deploy.milvus_lite import milvus_lite_command
from ensembles.bundle import Band, Bundle, Capabilities
from ensembles.contracts import Dimensions
from gateway.catalogue.catalogue import Catalogue
from gateway.client import Client
from ingest.sandbox import SANDBOX
from tests.catalogues import DATABASES, empty_catalogue, postgresql
from tests.media import make_video
from tests.stacks import JOB_TIMEOUT_S, LiveStack, running_stack

MILVUS_START_S = 20

SMALL = Dimensions(
    vision=16,
    sentence=32,
    audio=8,
    fused=16,
    image_size_px=32,
    clip_tokens=77,
    sentence_tokens=128,
)

_versions = itertools.count(1)

# How quick a busy machine is must decide no test.
hypothesis.settings.register_profile("pixserve", deadline=None)
hypothesis.settings.load_profile("pixserve")

# A shell ignores SIGINT for what it runs in the background, and every process started here would
# inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def bundle() -> Bundle:
    """A small bundle whose version, and so whose collections, no other test has."""
    return make_bundle()


def make_bundle() -> Bundle:
    return Bundle(
        profile="test",
        version=next(_versions),
        dims=SMALL,
        capabilities=Capabilities(
            words_to_pixels=False, words_to_sounds=False, fusion_trained=False
        ),
        calibration={
            "visual": Band(low=0.5, high=1.0),
            "speech": Band(low=0.0, high=1.0),
            "sound": Band(low=0.5, high=1.0),
            "fused": Band(low=0.5, high=1.0),
            "keyword": Band(low=0.0, high=2.0),
        },
    )


@pytest.fixture(scope="module")
def sandbox() -> Iterator[None]:
    """What a module of tests decodes in child processes, which end with it."""
    yield
    SANDBOX.close()


@pytest.fixture(scope="session")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of six seconds with sound, for reading only."""
    return make_video(tmp_path_factory.mktemp("media") / "video.mp4")


@pytest.fixture(scope="session")
def whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recogniser's model, for reading only."""
    from tests.whispers import make_whisper  # needs an extra, and torch

    return make_whisper(tmp_path_factory.mktemp("whisper"))


@pytest.fixture(scope="session")
def milvus_uri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The real embedded Milvus on a free port."""
    folder = tmp_path_factory.mktemp("milvus")
    address = f"127.0.0.1:{free_port()}"
    with start_milvus(folder, address) as process:
        yield f"http://{address}"
        process.kill()


@pytest.fixture(scope="module", params=DATABASES)
def database_url(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """Each kind of database that a catalogue may be in."""
    folder = tmp_path_factory.mktemp("database")
    if request.param == "sqlite":
        yield f"sqlite:///{folder / 'new' / 'catalogue.db'}"
    else:
        with postgresql(folder, free_port()) as url:
            yield url


@pytest.fixture
def catalogue(database_url: str) -> Iterator[Catalogue]:
    """A catalogue with nothing in it."""
    with empty_catalogue(database_url) as catalogue:
        yield catalogue


def start_milvus(folder: Path, address: str) -> subprocess.Popen[bytes]:
    """Start the embedded Milvus and wait until it answers."""
    command, variables = milvus_lite_command(folder / "test.db", address)
    with (folder / "milvus.log").open("ab") as log:
        process = subprocess.Popen(
            command, env=os.environ | variables, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        with grpc.insecure_channel(address) as channel:
            grpc.channel_ready_future(channel).result(timeout=MILVUS_START_S)
    except grpc.FutureTimeoutError:
        process.kill()
        process.wait()
        raise
    return process


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@dataclass(frozen=True)
class Demo:
    """The demo videos in a running stack."""

    stack: LiveStack
    videos: dict[str, DemoVideo]
    ids: dict[str, str]  # of the videos, by name


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    """The real stack, holding all demo videos, rendered small."""
    folder = tmp_path_factory.mktemp("live")
    videos = render_all(folder / "demo", lambda _name, _done, _total: None, size=(320, 180))
    with running_stack(folder / "data", free_port()) as stack, Client(stack.url) as client:
        accepted = [client.upload(v.path, v.metadata, v.sidecar) for v in videos]
        for upload in accepted:
            job = client.wait(upload.job_id, timeout_s=JOB_TIMEOUT_S)
            assert job.state == "succeeded", job
        ids = {v.name: a.video_id for v, a in zip(videos, accepted, strict=True)}
        yield Demo(stack, {video.name: video for video in videos}, ids)


@pytest.fixture
def client(demo: Demo) -> Iterator[Client]:
    with Client(demo.stack.url) as client:
        yield client
