"""Kills the worker at random moments of an ingest, and compares what comes of it with no kill.

The same files are ingested twice by one creator: undisturbed, then, after they were deleted,
with a worker that gets SIGKILL again and again. Ids derive from creator and content, so both times
everything must be the same: catalogue, index, pictures and, but for rounding, tokens.
"""

import os
import random
import secrets
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from deploy.state import PartState, read_state
from gateway.client import Client
from gateway.commands.local import open_local
from gateway.doors import Doors
from gateway.errors import DeadlineExceeded, NotFound
from gateway.schemas import Accepted, VideoMetadata
from ingest import verify as comparison
from ingest.consistency import Finding
from loadtest.bench_ingest_media import Recipe
from loadtest.bench_ingest_traces import Trace, differences, duplicates, tokens_apart, traces_of
from loadtest.stack import MeasuredStack

VIDEO_S = (4.0, 12.0)  # shortest, longest
HEIGHT_PX = 180
RESTART_S = 300.0  # for the supervisor to start the worker again, on a busy machine
JOBS_S = 900.0  # for all jobs of one round to end
POLL_S = 0.02

Progress = Callable[[str], None]


class KillsReport(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it."""

    videos: int
    kills: int
    seed: int
    held_when_killed: int  # kills under which a job was being worked on
    undisturbed_s: float
    disturbed_s: float
    failed: tuple[str, ...]
    differences: tuple[str, ...]
    duplicates: int  # rows of the index whose segment has another one in the same leg
    findings: tuple[Finding, ...]  # of `pixserve verify`
    tokens_apart: float  # the largest difference of two components

    @property
    def passed(self) -> bool:
        """Whether nothing tells the two rounds apart."""
        return not (self.failed or self.differences or self.duplicates or self.findings)


def recipes(videos: int, seed: int) -> list[Recipe]:
    """Return small videos of different lengths."""
    generator = random.Random(seed)  # noqa: S311 (a schedule, not a secret)
    return [
        Recipe(round(generator.uniform(*VIDEO_S), 1), HEIGHT_PX, "cuts", seed * 1_000 + number)
        for number in range(videos)
    ]


@dataclass(frozen=True)
class _Round:
    seconds: float
    failed: list[str]
    traces: dict[str, Trace]
    video_ids: list[str]


async def bench_kills(
    stack: MeasuredStack, files: Sequence[Path], *, kills: int, seed: int, progress: Progress
) -> KillsReport:
    """Ingest files twice and compare; they are deleted again.

    Args:
        stack: runs; nothing else should use it.
        files: different from each other.
        kills: how often the worker gets SIGKILL in the second round.
        seed: of the moments.
        progress: told each step.

    Raises:
        DeadlineExceeded: jobs do not end, or the worker does not come back.
        ConfigurationError: no stack runs on the folder.
    """
    creator = f"kills-{secrets.token_hex(8)}"
    doors = open_local(stack.data_dir)
    try:
        with Client(stack.gateway) as client:
            calm = await _round(doors, client, files, creator, lambda _: None)
            _delete(client, calm.video_ids)
            progress(f"undisturbed: {calm.seconds:.1f} s")
            window_s = calm.seconds / max(kills, 1)
            seeded = random.Random(seed)  # noqa: S311 (a schedule, not a secret)
            killer = _Killer(stack, client, len(files), seeded, window_s, progress)
            stormy = await _round(doors, client, files, creator, partial(killer.kill, kills))
            verified = await comparison.verify(
                doors.settings, doors.catalogue, doors.milvus, doors.bundle, lambda *_: None
            )
            surplus = await duplicates(doors)
            _delete(client, stormy.video_ids)
    finally:
        await doors.close()
    pairs = [(calm.traces[key], stormy.traces[key]) for key in calm.traces.keys() & stormy.traces]
    return KillsReport(
        videos=len(files),
        kills=len(killer.held),
        seed=seed,
        held_when_killed=sum(killer.held),
        undisturbed_s=calm.seconds,
        disturbed_s=stormy.seconds,
        failed=tuple(calm.failed + stormy.failed),
        differences=tuple(differences(calm.traces, stormy.traces)),
        duplicates=surplus,
        findings=verified.findings,
        tokens_apart=max((tokens_apart(a.tokens, b.tokens) for a, b in pairs), default=0.0),
    )


async def _round(
    doors: Doors,
    client: Client,
    files: Sequence[Path],
    creator: str,
    meanwhile: Callable[[Sequence[Accepted]], None],
) -> _Round:
    """Ingest all files, with something that happens from the first upload on, in a thread."""
    begun_s = time.monotonic()
    accepted: list[Accepted] = []
    with ThreadPoolExecutor(1) as threads:
        happening = threads.submit(meanwhile, accepted)
        for path in files:
            metadata = VideoMetadata(creator_id=creator, title=path.stem)
            accepted.append(client.upload(path, metadata))
        happening.result()
    jobs = [client.wait(upload.job_id, timeout_s=JOBS_S) for upload in accepted]
    seconds = time.monotonic() - begun_s
    failed = [f"{job.video_id}: {job.error}" for job in jobs if job.state != "succeeded"]
    video_ids = [upload.video_id for upload in accepted]
    return _Round(seconds, failed, await traces_of(doors, video_ids), video_ids)


def _delete(client: Client, video_ids: Sequence[str]) -> None:
    for video_id in video_ids:
        client.wait(client.delete_video(video_id).id, timeout_s=JOBS_S)


# ---- kills --------------------------------------------------------------------------------------


@dataclass
class _Killer:
    stack: MeasuredStack
    client: Client
    videos: int
    generator: random.Random
    window_s: float  # after a worker's start, in which it is killed
    progress: Progress
    held: list[bool] = field(default_factory=list)  # of each kill: was a job worked on

    def kill(self, kills: int, accepted: Sequence[Accepted]) -> None:
        """Kill the worker at random moments; ends early where all jobs have ended."""
        before: PartState | None = None
        while len(self.held) < kills:
            before = _worker(self.stack, before)
            time.sleep(self.generator.uniform(0, self.window_s))
            states = Counter(self.client.job(upload.job_id).state for upload in tuple(accepted))
            ended = states.total() - states["queued"] - states["running"]
            if ended == self.videos:
                return
            assert before.pid is not None
            os.kill(before.pid, signal.SIGKILL)
            self.held.append(states["running"] > 0)
            done = f"{states['succeeded']} of {self.videos} videos are done"
            self.progress(f"kill {len(self.held)} of {kills}: {done}")


def _worker(stack: MeasuredStack, before: PartState | None) -> PartState:
    """Wait until the worker runs, another one than before.

    Raises:
        DeadlineExceeded: it does not come.
        NotFound: no stack runs, or none with a worker.
    """
    end_s = time.monotonic() + RESTART_S
    while time.monotonic() < end_s:
        state = read_state(stack.data_dir / "run")
        if state is None:
            raise NotFound(f"no stack runs on {stack.data_dir}")
        now = state.part("worker")
        if now.state == "ready" and (before is None or now.pid != before.pid):
            return now
        time.sleep(POLL_S)
    raise DeadlineExceeded("worker", f"the worker did not come back within {RESTART_S:g} s")
