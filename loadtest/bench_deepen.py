"""What more PIX costs: a deeper look at a video beside an analysis with that PIX from nothing."""

import asyncio
import secrets
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ensembles.bundle import Bundle
from gateway.client import Client
from gateway.commands.local import local_settings
from gateway.errors import PixserveError
from gateway.schemas import VideoMetadata
from ingest.tokens import read_tokens, tokens_path
from loadtest.stack import MeasuredStack, measured_bundle

JOB_S = 3_600.0  # for one video on a busy machine


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """One investment."""

    pix: int  # in all
    frames: int  # looked at in all
    deeper_s: float  # from the investment until its job has ended
    at_once_s: float  # the same PIX from nothing: from the end of the upload until its job ended


def bench_deepen(
    stack: MeasuredStack, path: Path, pix: Sequence[int], progress: Callable[[str], None]
) -> list[Step]:
    """Invest in a video again and again; then upload it anew with each of the sums.

    Args:
        stack: runs; nothing else should use it.
        path: the video's file.
        pix: the sums, ascending.
        progress: told each step.

    Raises:
        PixserveError: a job failed, or an investment bought nothing.
    """
    videos_dir, bundle = (
        local_settings(stack.data_dir).videos_dir,
        asyncio.run(measured_bundle(stack)),
    )
    with Client(stack.gateway) as client:
        progress("without PIX")
        video_id, _ = _uploaded(client, path, 0)
        deeper = [_invested(client, video_id, more, progress) for more in pix]
        client.wait(client.delete_video(video_id).id, timeout_s=JOB_S)
        steps = []
        for total, deeper_s in zip(pix, deeper, strict=True):
            progress(f"{total} PIX at once")
            video_id, at_once_s = _uploaded(client, path, total)
            frames = _frames(videos_dir / video_id, bundle)
            client.wait(client.delete_video(video_id).id, timeout_s=JOB_S)
            steps.append(Step(pix=total, frames=frames, deeper_s=deeper_s, at_once_s=at_once_s))
    return steps


def _uploaded(client: Client, path: Path, pix: int) -> tuple[str, float]:
    """Ingest a file as a creator that is new; return its id, and how long its job took."""
    creator = f"bench-{secrets.token_hex(8)}"
    accepted = client.upload(path, VideoMetadata(creator_id=creator, title=path.stem, pix=pix))
    begun_s = time.perf_counter()
    _succeeded(client, accepted.job_id)
    return accepted.video_id, time.perf_counter() - begun_s


def _invested(client: Client, video_id: str, total: int, progress: Callable[[str], None]) -> float:
    """Invest up to a sum; return how long the deeper look took."""
    progress(f"{total} PIX, from what is known")
    begun_s = time.perf_counter()
    invested = client.invest(video_id, total - client.video(video_id).pix, f"up-to-{total}")
    if invested.job_id is None:
        raise PixserveError(f"{total} PIX buy no deeper look than the sum before: take more")
    _succeeded(client, invested.job_id)
    return time.perf_counter() - begun_s


def _succeeded(client: Client, job_id: str) -> None:
    job = client.wait(job_id, timeout_s=JOB_S)
    if job.state != "succeeded":
        raise PixserveError(f"the job {job_id} {job.state}: {job.error}")


def _frames(folder: Path, bundle: Bundle) -> int:
    return len(read_tokens(tokens_path(folder, bundle.id), bundle).frames)
