"""What an ingest costs the machine: processor time by part, the worker's memory, and its rival."""

import threading
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import chain
from multiprocessing import get_context
from pathlib import Path
from typing import Self

import av
import msgspec
import psutil  # type: ignore[import-untyped]  # it has no types

from loadtest.harness.place import Place

SAMPLE_S = 0.2  # between looks at the worker's memory
MIB = 2**20


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """Processor seconds of each part; children that have ended count with their parents."""

    worker: float  # with its sandbox: probe, scenes, cutting, writing
    pictures: float  # the model that decodes and resizes pictures, with its sandbox
    sound: float  # the model that decodes sound, with its sandbox
    encoding: float  # the rest of Triton
    milvus: float
    gateway: float

    @property
    def until_pixels(self) -> float:
        """What stands against decoding every picture; sound is left out of both."""
        return self.worker + self.pictures

    @property
    def total(self) -> float:
        """All parts."""
        return self.until_pixels + self.sound + self.encoding + self.milvus + self.gateway


def cpu_now(place: Place) -> Cpu:
    """Read what each part has used since it started.

    Raises:
        NotFound: there is no local stack.
    """
    pictures, sound = _model_cpu_s(place, "decode_video"), _model_cpu_s(place, "decode_audio")
    return Cpu(
        worker=cpu_s(place.processes("worker")),
        pictures=pictures,
        sound=sound,
        encoding=cpu_s(place.processes("triton")) - pictures - sound,
        milvus=cpu_s(place.processes("milvus")),
        gateway=cpu_s(place.processes("gateway")),
    )


def cpu_between(before: Cpu, after: Cpu) -> Cpu:
    """Return what was used in between."""
    names = Cpu.__struct_fields__
    return Cpu(**{name: getattr(after, name) - getattr(before, name) for name in names})


def _model_cpu_s(place: Place, model: str) -> float:
    """Read what the processes of a model, and those below them, have used."""
    own = list(place.model_processes(model))
    below = chain.from_iterable(process.children(recursive=True) for process in own)
    return cpu_s({process.pid: process for process in chain(own, below)}.values())


def cpu_s(processes: Iterable[psutil.Process]) -> float:
    """Return the processor seconds of processes, and of children of theirs that have ended."""
    total = 0.0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            total += sum(process.cpu_times()[:4])  # its own, and those of children that ended
    return total


class PeakMemory:
    """Watches the memory of a part and all below it: pages that are shared count once.

    Args:
        place: of the stack.
        part: its name.
    """

    def __init__(self, place: Place, part: str = "worker") -> None:
        self.mib = 0.0
        self._place, self._part = place, part
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(SAMPLE_S):
            now = 0
            for process in self._place.processes(self._part):
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    now += process.memory_full_info().pss
            self.mib = max(self.mib, now / MIB)


# ---- the rival ----------------------------------------------------------------------------------


class Everything(msgspec.Struct, frozen=True, kw_only=True):
    """Decoding every frame with PyAV and keeping one in so many seconds: the usual way."""

    frames: int  # kept
    cpu_s: float
    wall_s: float


def decode_everything(path: Path, every_s: float, side_px: int) -> Everything:
    """Decode a whole picture in a process of its own; sound is left out, in its favour.

    Args:
        path: the file.
        every_s: between the frames that are kept.
        side_px: to which they are resized.
    """
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(_decode_everything, path, every_s, side_px).result()


def _decode_everything(path: Path, every_s: float, side_px: int) -> Everything:
    cpu_begun_s, begun_s = time.process_time(), time.perf_counter()
    kept, due_s = 0, 0.0
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for frame in container.decode(stream):
            if frame.time is not None and frame.time >= due_s:
                frame.reformat(width=side_px, height=side_px, format="rgb24").to_ndarray()
                kept, due_s = kept + 1, due_s + every_s
    return Everything(
        frames=kept,
        cpu_s=time.process_time() - cpu_begun_s,
        wall_s=time.perf_counter() - begun_s,
    )
