"""The typed client of the gateway's HTTP API; errors come back as the errors that were raised."""

import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from gateway import errors
from gateway.client_replies import DEFAULT_URL, decoded, mapped, raised, read_reply
from gateway.client_requests import search_options
from gateway.media_schemas import JobPatch, Jobs, Storyboard
from gateway.schemas import (
    Accepted,
    Health,
    Investment,
    InvestmentRequest,
    Job,
    JobState,
    SearchReply,
    SearchRequest,
    Video,
    VideoMetadata,
    VideoPage,
    VideoPatch,
)

TIMEOUT_S = 30.0  # without a byte
UPLOAD_TIMEOUT_S = 300.0  # the gateway probes the file before it answers
POLL_FIRST_S = 0.05  # between questions about a job; grows by a half each time
POLL_MAX_S = 1.0
ENDED = frozenset({"succeeded", "failed", "cancelled"})

T = TypeVar("T", bound=msgspec.Struct)


class Client:
    """A connection to one gateway; use it as a context manager, from one thread at a time.

    Every method raises what the gateway raised (`gateway.errors`), and `Unavailable("gateway")`
    where there is none.

    Args:
        base_url: where the gateway is.
        timeout_s: how long it may be silent.
    """

    def __init__(self, base_url: str = DEFAULT_URL, timeout_s: float = TIMEOUT_S) -> None:
        try:
            self._http = httpx.Client(base_url=base_url, timeout=timeout_s)
        except httpx.InvalidURL as error:
            raise errors.ConfigurationError(f"{base_url!r} is no URL like {DEFAULT_URL}") from error
        self.base_url = base_url

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # ---- videos ---------------------------------------------------------------------------------

    def upload(
        self,
        path: Path,
        metadata: VideoMetadata,
        transcript: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Accepted:
        """Send a video, streamed from the disk.

        Args:
            path: the file.
            metadata: title, creator, PIX and so on.
            transcript: an .srt or .vtt file.
            progress: called with the bytes that were sent and all of them.

        Returns:
            The video's id and its job, which analyses it.
        """
        with ExitStack() as stack:
            file = stack.enter_context(_Counted(path, progress))
            files: dict[str, Any] = {
                "metadata": (None, msgspec.json.encode(metadata), "application/json"),
                "file": (path.name, file, "application/octet-stream"),
            }
            if transcript is not None:
                files["transcript"] = (transcript.name, transcript.read_bytes(), "text/plain")
            return self._send(Accepted, "POST", "/v1/videos", files=files, timeout=UPLOAD_TIMEOUT_S)

    def video(self, video_id: str) -> Video:
        """Read a video."""
        return self._send(Video, "GET", f"/v1/videos/{video_id}")

    def videos(self, after: str | None = None, limit: int = 20) -> VideoPage:
        """Read a page of videos, newest first; `after` is `next` of the page before."""
        params = {"limit": str(limit)} | ({} if after is None else {"after": after})
        return self._send(VideoPage, "GET", "/v1/videos", params=params)

    def patch_video(self, video_id: str, change: VideoPatch) -> Video:
        """Change a video's metadata."""
        return self._send(
            Video, "PATCH", f"/v1/videos/{video_id}", content=msgspec.json.encode(change)
        )

    def delete_video(self, video_id: str) -> Job:
        """Delete a video: searches miss it at once, the job removes what is left."""
        return self._send(Job, "DELETE", f"/v1/videos/{video_id}")

    def invest(self, video_id: str, pix: int, key: str) -> Investment:
        """Add PIX to a video; the same key again adds nothing."""
        body = msgspec.json.encode(InvestmentRequest(pix=pix, key=key))
        return self._send(Investment, "POST", f"/v1/videos/{video_id}/investments", content=body)

    def storyboard(self, video_id: str) -> Storyboard:
        """Read which picture belongs to which segment of a video."""
        return self._send(Storyboard, "GET", f"/v1/videos/{video_id}/storyboard")

    def thumbnail(self, video_id: str, segment_id: str) -> bytes:
        """Read the WebP picture of a segment."""
        reply = self._request("GET", f"/v1/videos/{video_id}/thumbnails/{segment_id}.webp")
        if reply.is_error:
            raise raised(reply)
        return reply.content

    def file(self, video_id: str, start: int = 0) -> Iterator[bytes]:
        """Read a video's file, piece by piece.

        Args:
            video_id: which.
            start: the first byte wanted, to go on where a reading ended.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        with self._stream("GET", f"/v1/videos/{video_id}/file", headers=headers) as reply:
            yield from reply.iter_bytes()

    # ---- jobs -----------------------------------------------------------------------------------

    def jobs(
        self, state: JobState | None = None, video_id: str | None = None, limit: int = 20
    ) -> tuple[Job, ...]:
        """Read jobs, newest first: in this state, of this video, where given."""
        given = {"state": state, "video_id": video_id, "limit": str(limit)}
        params = {name: value for name, value in given.items() if value is not None}
        return self._send(Jobs, "GET", "/v1/jobs", params=params).jobs

    def cancel_job(self, job_id: str) -> Job:
        """Stop a job."""
        return self._send(Job, "POST", f"/v1/jobs/{job_id}/cancel")

    def set_priority(self, job_id: str, priority: int) -> Job:
        """Say how urgent a job is that waits: those with the highest priority come first."""
        body = msgspec.json.encode(JobPatch(priority=priority))
        return self._send(Job, "PATCH", f"/v1/jobs/{job_id}", content=body)

    def job_events(self, job_id: str) -> Iterator[Job]:
        """Listen to a job: yields it each time that it has changed, the last time as it ended."""
        with self._stream("GET", f"/v1/jobs/{job_id}/events") as reply:
            for line in reply.iter_lines():
                if line.startswith("data: "):
                    yield decoded(line.removeprefix("data: ").encode(), Job, reply)

    def job(self, job_id: str) -> Job:
        """Read a job."""
        return self._send(Job, "GET", f"/v1/jobs/{job_id}")

    def wait(
        self,
        job_id: str,
        on_change: Callable[[Job], None] | None = None,
        timeout_s: float | None = None,
        stop: Event | None = None,
    ) -> Job:
        """Wait until a job has ended, well or not, or until `stop` is set.

        Args:
            job_id: which.
            on_change: called with the job each time that it has advanced.
            timeout_s: how long to wait at most; None: as long as it takes.
            stop: ends the waiting from another thread.

        Returns:
            The job as it was read last.

        Raises:
            DeadlineExceeded: it has not ended in time.
        """
        last: Job | None = None
        pause_s = POLL_FIRST_S
        begin = time.monotonic()
        stop = stop or Event()
        while True:
            job = self.job(job_id)
            if on_change is not None and job != last:
                on_change(job)
            if job.state in ENDED or stop.is_set():
                return job
            if timeout_s is not None and time.monotonic() - begin > timeout_s:
                raise errors.DeadlineExceeded(
                    "worker", f"job {job_id} is {job.state} ({job.stage}) after {timeout_s:g} s"
                )
            pause_s = POLL_FIRST_S if job != last else min(POLL_MAX_S, pause_s * 1.5)
            last = job
            stop.wait(pause_s)

    # ---- search and health ----------------------------------------------------------------------

    def search(self, request: SearchRequest) -> SearchReply:
        """Search with words, an image, a sound, a clip, a segment, or several of them."""
        return self._send(SearchReply, "POST", "/v1/search", **search_options(request))

    def ready(self) -> Health:
        """Read whether a search can be answered; an unavailable stack is a reply, not an error."""
        reply = self._request("GET", "/health/ready")
        if reply.status_code in (200, 503):
            return read_reply(reply, Health)
        raise raised(reply)

    def _send(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        reply = self._request(method, path, **options)
        if reply.is_error:
            raise raised(reply)
        return read_reply(reply, kind)

    @contextmanager
    def _stream(self, method: str, path: str, **options: Any) -> Iterator[httpx.Response]:
        """Open a reply that is read piece by piece."""
        with mapped(self.base_url), self._http.stream(method, path, **options) as reply:
            if reply.is_error:
                reply.read()
                raise raised(reply)
            yield reply

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with mapped(self.base_url):
            return self._http.request(method, path, **options)


class _Counted(io.FileIO):
    """A file that tells how much of it was read."""

    def __init__(self, path: Path, progress: Callable[[int, int], None] | None) -> None:
        super().__init__(path)
        self._progress = progress
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Read on, and tell."""
        data = super().read(-1 if size is None else size) or b""
        if self._progress is not None:
            self._progress(self.tell(), self._size)
        return data
