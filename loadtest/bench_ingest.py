"""Seconds of video a second of wall time, from the first upload until all can be found."""

import secrets
import time
from collections.abc import Callable, Sequence

import msgspec

from deploy.demo.render import DemoVideo
from gateway.client import Client


class IngestReport(msgspec.Struct, frozen=True):
    """The time of one run."""

    videos: int
    video_s: float
    upload_s: float  # wall time until the last upload was accepted
    wall_s: float  # wall time until the last job had ended
    times_real_time: float
    failed: tuple[str, ...]


def bench_ingest(
    client: Client, videos: Sequence[DemoVideo], progress: Callable[[str], None]
) -> IngestReport:
    """Ingest the files as a creator that is new, so that none is known, then delete them again."""
    creator = f"bench-{secrets.token_hex(8)}"
    start = time.perf_counter()
    accepted = []
    for video in videos:
        metadata = msgspec.structs.replace(video.metadata, creator_id=creator)
        accepted.append(client.upload(video.path, metadata, video.sidecar))
        progress(f"upload {video.name}")
    uploaded = time.perf_counter()
    jobs = []
    for video, upload in zip(videos, accepted, strict=True):
        jobs.append(client.wait(upload.job_id))
        progress(f"ingest {video.name}")
    elapsed_s = time.perf_counter() - start
    for upload in accepted:
        client.wait(client.delete_video(upload.video_id).id)
    video_s = sum(video.duration_s for video in videos)
    return IngestReport(
        videos=len(videos),
        video_s=video_s,
        upload_s=uploaded - start,
        wall_s=elapsed_s,
        times_real_time=video_s / elapsed_s,
        failed=tuple(
            f"{video.name}: {job.error}"
            for video, job in zip(videos, jobs, strict=True)
            if job.state != "succeeded"
        ),
    )
