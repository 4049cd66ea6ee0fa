"""The stack that is measured: where its parts are, and what machine it runs on."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from deploy.demo.render import render_all
from deploy.demo.run import id_of, stack
from deploy.state import read_state
from ensembles.bundle import Bundle, list_bundles
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.triton import served_bundle

PACKAGES = ("onnxruntime", "milvus-lite", "pymilvus", "nvidia-pytriton", "litestar", "uvicorn")
METADATA_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class MeasuredStack:
    """A running stack's addresses and folders."""

    data_dir: Path
    models_dir: Path
    profile: str
    gateway: str  # URL
    triton: str  # HOST:PORT, gRPC


def find_stack(data_dir: Path) -> MeasuredStack:
    """Return the stack of a data folder; raises `ConfigurationError` where none is ready."""
    folder = data_dir.expanduser().resolve()
    state = read_state(folder / "run")
    if state is None or not state.ready:
        raise ConfigurationError(
            f"no stack is ready on {folder}: pixserve up --detach --data-dir {data_dir}"
        )
    return MeasuredStack(
        data_dir=folder,
        models_dir=Settings(data_dir=str(folder)).models_dir,
        profile=state.profile,
        gateway=state.address,
        triton=state.part("triton").address,
    )


async def measured_bundle(measured: MeasuredStack) -> Bundle:
    """Return the newest bundle that a stack's Triton serves, as it was exported.

    Raises:
        Unavailable: Triton does not answer.
        ConfigurationError: the bundle's folder is gone.
    """
    served = await served_bundle(measured.triton, timeout_s=METADATA_TIMEOUT_S)
    for bundle in list_bundles(measured.models_dir, measured.profile):
        if bundle.version == served.version:
            return bundle
    raise ConfigurationError(
        f"Triton serves bundle {served.version} of {measured.profile}, which is not among those "
        f"in {measured.models_dir}: restart the stack"
    )


def demo_ids(measured: MeasuredStack) -> dict[str, str]:
    """Return the id of each demo video, by its name."""
    videos = render_all(measured.data_dir / "demo", lambda _name, _done, _total: None)
    return {video.name: id_of(video) for video in videos}


@contextmanager
def running_stack(data_dir: Path) -> Iterator[None]:
    """Start the stack unless it runs, and stop what was started."""
    folder = data_dir.expanduser().resolve()
    if not (folder / "catalogue.db").is_file() or not (folder / "demo").is_dir():
        raise ConfigurationError(
            f"{folder} does not hold the demo videos: make demo ONCE=1, or "
            f"python -m deploy.demo.run --once --data-dir {data_dir}"
        )
    if read_state(folder / "run") is not None:
        yield
        return
    with stack(folder, Settings().port):
        yield


def describe_machine() -> str:
    """Return one line: processor, cores, memory, Python and the packages that matter."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{_processor()}, {len(os.sched_getaffinity(0))} cores, {memory_gib:.0f} GiB, "
        f"Python {platform.python_version()}, {packages}"
    )


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
