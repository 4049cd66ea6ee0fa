"""The way of one long video, measured: through the stack, stage by stage, and beside its rival."""

import os
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec

from gateway.client import Client
from gateway.commands.local import open_local
from gateway.doors import Doors
from gateway.errors import DeadlineExceeded, PixserveError, Unavailable
from gateway.schemas import SearchRequest, VideoMetadata
from ingest.pipeline import analyse
from ingest.sandbox import SANDBOX
from ingest.tasks import analysis_request, store
from loadtest.bench_ingest_cost import (
    Cpu,
    Everything,
    PeakMemory,
    cpu_between,
    cpu_now,
    decode_everything,
)
from loadtest.bench_ingest_media import Recipe
from loadtest.harness.place import Place
from loadtest.harness.sampling import model_loads, triton_counters
from loadtest.stack import MeasuredStack

JOB_S = 3_600.0  # for one video on a busy machine
ASK_EVERY_S = 0.02  # between questions after the job …
ASK_EVERY_SHARE = 0.01  # … or this share of the time it has taken, so that they cost little
SEARCH_DEADLINE_MS = 1_000
LETTERS = "abcdefghijklmnop"  # for hexadecimal digits: a word that no analyser splits
MODELS = {
    "decode_video": "decode and resize pictures",
    "decode_audio": "decode sound",
    "clip_vision": "encode pictures",
    "wav2vec2": "encode sound",
    "sentence": "encode words",
    "fusion": "fuse",
}

Progress = Callable[[str], None]


class WayReport(msgspec.Struct, frozen=True, kw_only=True):
    """One video."""

    recipe: Recipe
    mib: float  # of its file
    segments: int
    frames: int  # looked at
    searchable_s: float  # from the end of the upload to the first search that finds it
    times_real_time: float
    cpu: Cpu  # of that ingest, seconds
    worker_peak_mib: float
    stages_s: dict[str, float]  # wall time of a second analysis; from `cut` on they overlap
    everything: Everything

    @property
    def less_cpu(self) -> float:
        """How many times the processor time of ours decoding everything takes."""
        return self.everything.cpu_s / max(self.cpu.until_pixels, 1e-9)


async def bench_way(
    stack: MeasuredStack, recipe: Recipe, path: Path, progress: Progress
) -> WayReport:
    """Ingest one video through the stack, analyse it once more by stages, and delete it.

    Args:
        stack: runs; nothing else should use it.
        recipe: of the video.
        path: its file.
        progress: told each step.

    Raises:
        PixserveError: the video could not be ingested.
        DeadlineExceeded: it took over an hour.
    """
    place = Place(stack.gateway, stack.triton, stack.data_dir)
    size_bytes = os.stat(path).st_size
    doors = open_local(stack.data_dir)
    try:
        with Client(stack.gateway) as client:
            progress("ingest")
            before = cpu_now(place)
            with PeakMemory(place) as peak:
                video_id, searchable_s = _until_found(client, path)
            cpu = cpu_between(before, cpu_now(place))
            progress("analyse by stages")
            stages_s, frames, segments = await _stages(doors, place, video_id)
            client.wait(client.delete_video(video_id).id, timeout_s=JOB_S)
        progress("decode everything")
        every_s = 1 / doors.settings.base_frames_per_s
        rival = decode_everything(path, every_s, doors.bundle.dims.image_size_px)
    finally:
        SANDBOX.close()
        await doors.close()
    return WayReport(
        recipe=recipe,
        mib=size_bytes / 2**20,
        segments=segments,
        frames=frames,
        searchable_s=searchable_s,
        times_real_time=recipe.duration_s / searchable_s,
        cpu=cpu,
        worker_peak_mib=peak.mib,
        stages_s=stages_s,
        everything=rival,
    )


def _until_found(client: Client, path: Path) -> tuple[str, float]:
    """Upload a file under a title that is one new word; search for that word until it hits.

    The searches begin when the job has ended: each costs as much processor time as ingesting a
    second of video, and they would be what is measured.
    """
    word = "".join(LETTERS[int(digit, 16)] for digit in secrets.token_hex(6))
    accepted = client.upload(path, VideoMetadata(creator_id=f"bench-{word}", title=word))
    begun_s = time.perf_counter()
    request = SearchRequest(query=word, cutoff=0.0, deadline_ms=SEARCH_DEADLINE_MS)
    while (waited_s := time.perf_counter() - begun_s) < JOB_S:
        job = client.job(accepted.job_id)
        if job.state in ("failed", "cancelled"):
            raise PixserveError(f"ingest of {path.name} {job.state}: {job.error}")
        if job.state == "succeeded":
            with suppress(DeadlineExceeded, Unavailable):  # no leg answered: nothing is found yet
                if any(hit.video_id == accepted.video_id for hit in client.search(request).hits):
                    return accepted.video_id, time.perf_counter() - begun_s
        time.sleep(max(ASK_EVERY_S, ASK_EVERY_SHARE * waited_s))
    raise DeadlineExceeded("worker", f"{path.name} cannot be found {JOB_S:g} s after its upload")


async def _stages(doors: Doors, place: Place, video_id: str) -> tuple[dict[str, float], int, int]:
    """Analyse and store a video again; return each stage's seconds, its frames and segments."""
    record = doors.catalogue.analyses.record(video_id)
    folder = doors.settings.videos_dir / video_id
    request = analysis_request(doors, record, folder)
    before = triton_counters(place)
    path = folder / record.source_name
    found = await analyse(path, request, doors.settings, doors.triton, lambda *_: None)
    loads = model_loads(before, triton_counters(place))
    begun_s = time.perf_counter()
    await store(doors, record, found, is_new=False)
    write_s = time.perf_counter() - begun_s
    computed = {load.model: load.compute_ms * load.requests / 1_000 for load in loads}
    stages_s = {
        **{name: found.stage_s[name] for name in ("probe", "transcript", "scenes")},
        "cut (remux)": found.stage_s["cut"],
        **{told: computed[name] for name, told in MODELS.items() if name in computed},
        "all chunks (cut, decode, encode, fuse)": found.stage_s["embed"],
        "write": write_s,
    }
    return stages_s, found.counts.frames, len(found.segments)
