"""The GPU of this machine, as its driver's `nvidia-smi` describes it."""

import csv
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import msgspec

from gateway.errors import ConfigurationError

TOOL = "nvidia-smi"
FIELDS = ("name", "compute_cap", "driver_version", "memory.total")
TIMEOUT_S = 30.0
SAMPLE_MS = 100  # between two readings of the GPU's utilisation

Ask = Callable[[tuple[str, ...]], str]


class NoGpu(ConfigurationError):  # noqa: N818 (names what happened)
    """This machine has no GPU that a CUDA program could use."""


class Gpu(msgspec.Struct, frozen=True):
    """One GPU."""

    name: str  # such as NVIDIA H100 80GB HBM3
    compute_capability: str  # such as 9.0
    driver: str
    memory_mib: int


def find_gpu(ask: Ask | None = None) -> Gpu:
    """Return the first GPU of this machine.

    Args:
        ask: runs a command and returns what it prints; by default as a process.

    Raises:
        NoGpu: there is none, or its driver does not answer.
    """
    query = (TOOL, f"--query-gpu={','.join(FIELDS)}", "--format=csv,noheader,nounits")
    lines = [line for line in (ask or run_tool)(query).splitlines() if line.strip()]
    if not lines:
        raise NoGpu(f"{TOOL} lists no GPU")
    return parse_gpu(lines[0])


def used_memory_mib(ask: Ask | None = None) -> int:
    """Return how much of the first GPU's memory is in use; raises `NoGpu` where there is none."""
    answer = (ask or run_tool)((TOOL, "--query-gpu=memory.used", "--format=csv,noheader,nounits"))
    first = answer.partition("\n")[0].strip()
    if not first.isdecimal():
        raise NoGpu(f"{TOOL} answers {first!r} for the memory in use, expected MiB")
    return int(first)


def parse_gpu(line: str) -> Gpu:
    """Read one line of `nvidia-smi --query-gpu`; raises `NoGpu` where it is none."""
    values = [value.strip() for value in next(csv.reader([line]))]
    if len(values) != len(FIELDS) or not values[-1].isdecimal():
        raise NoGpu(f"{TOOL} answers {line!r}, which is not {', '.join(FIELDS)} in MiB")
    name, compute_capability, driver, memory = values
    return Gpu(name, compute_capability, driver, int(memory))


def run_tool(command: tuple[str, ...]) -> str:
    """Return what `nvidia-smi` prints; raises `NoGpu` where it is missing or fails."""
    if shutil.which(TOOL) is None:
        raise NoGpu(f"there is no {TOOL} here: no NVIDIA driver is installed")
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NoGpu(f"{TOOL} does not answer within {TIMEOUT_S:g} s") from error
    if done.returncode != 0:
        raise NoGpu(f"{TOOL} fails: {(done.stderr or done.stdout).strip()}")
    return done.stdout


@contextmanager
def utilisation() -> Iterator[list[float]]:
    """Read how busy the GPU is, in percent, every SAMPLE_MS; the list is whole at the end."""
    query = (TOOL, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits")
    command = (*query, f"--loop-ms={SAMPLE_MS}")
    readings: list[float] = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        reader = threading.Thread(target=_read, args=(process, readings), daemon=True)
        reader.start()
        try:
            yield readings
        finally:
            process.terminate()
            reader.join()


def _read(process: "subprocess.Popen[str]", readings: list[float]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip().isdecimal():
            readings.append(float(line))
