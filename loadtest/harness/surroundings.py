"""What a run takes place in: machine, versions, corpus. Asked before and after, never during."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # it comes without type information

from gateway.client import Client
from gateway.errors import PixserveError
from loadtest.harness.results import Corpus, Machine

PACKAGES = (
    *("pixserve", "onnxruntime", "milvus-lite", "pymilvus", "nvidia-pytriton", "tritonclient"),
    *("grpcio", "litestar", "uvicorn", "uvloop", "aiohttp", "hdrhistogram", "numpy"),
)
CPU_FLAGS = (  # what ONNX Runtime's kernels choose by
    *("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512bw", "avx512vl", "avx512_vnni"),
    *("avx512_bf16", "avx_vnni", "amx_tile", "amx_int8", "amx_bf16", "asimd", "asimddp", "i8mm"),
)
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
MAX_CORPUS_PAGES = 50  # of videos that are counted
PAGE = 100


def describe_machine() -> Machine:
    """Describe this machine and what is installed on it."""
    facts = _cpu_facts()
    flags = set(facts.get("flags", facts.get("Features", "")).split())
    return Machine(
        processor=facts.get("model name", platform.machine()),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        cpu_flags=tuple(flag for flag in CPU_FLAGS if flag in flags),
        kernel=platform.release(),
        python=platform.python_version(),
        packages={name: found for name in PACKAGES if (found := _version(name))},
        threads={name: os.environ[name] for name in THREAD_VARIABLES if name in os.environ},
        load_1m=round(os.getloadavg()[0], 2),
    )


def count_corpus(url: str) -> Corpus | None:
    """Count the videos and segments that a gateway can find; None where it does not tell."""
    videos = segments = 0
    after: str | None = None
    try:
        with Client(url) as client:
            for _ in range(MAX_CORPUS_PAGES):
                page = client.videos(after, PAGE)
                videos += len(page.videos)
                segments += sum(video.segments for video in page.videos)
                after = page.next
                if after is None:
                    return Corpus(videos=videos, segments=segments)
    except PixserveError:
        return None
    return Corpus(videos=videos, segments=segments, complete=False)


def _cpu_facts() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {name.strip(): value.strip() for name, _, value in pairs}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
