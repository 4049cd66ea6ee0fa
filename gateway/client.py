"""The typed client of the gateway's HTTP API; errors come back as the errors that were raised."""

import io
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from gateway import errors
from gateway.errors import PixserveError, Unavailable
from gateway.schemas import (
    Accepted,
    ErrorReply,
    Health,
    Investment,
    InvestmentRequest,
    Job,
    SearchReply,
    SearchRequest,
    Video,
    VideoMetadata,
    VideoPage,
    VideoPatch,
)

DEFAULT_URL = "http://127.0.0.1:8080"
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

    # ---- jobs -----------------------------------------------------------------------------------

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
        """Search with words, an image, a sound, or several of them."""
        told = msgspec.structs.replace(request, image=None, audio=None)
        files: dict[str, Any] = {
            "request": (None, msgspec.json.encode(told), "application/json"),
        }
        for name, data in (("image", request.image), ("audio", request.audio)):
            if data is not None:
                files[name] = (name, data, "application/octet-stream")
        if len(files) == 1:
            body = msgspec.json.encode(request)
            return self._send(SearchReply, "POST", "/v1/search", content=body)
        return self._send(SearchReply, "POST", "/v1/search", files=files)

    def ready(self) -> Health:
        """Read whether a search can be answered; an unavailable stack is a reply, not an error."""
        reply = self._request("GET", "/health/ready")
        if reply.status_code in (200, 503):
            return _decode(reply, Health)
        raise _raised(reply)

    def _send(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        reply = self._request(method, path, **options)
        if reply.is_error:
            raise _raised(reply)
        return _decode(reply, kind)

    def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self._http.request(method, path, **options)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise errors.ConfigurationError(
                f"{self.base_url!r} is no URL like {DEFAULT_URL}"
            ) from error
        except httpx.TransportError as error:
            raise Unavailable(
                "gateway", f"no gateway answers at {self._http.base_url}: {_cause(error)}"
            ) from error


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


def _decode(reply: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(reply.content, type=kind)
    except msgspec.MsgspecError as error:
        raise Unavailable(
            "gateway", f"{reply.url} answered {reply.status_code}, but not as pixserve does"
        ) from error


def _raised(reply: httpx.Response) -> PixserveError:
    """Return the error that the gateway raised."""
    told = _decode(reply, ErrorReply)
    kind = _kinds(PixserveError).get(told.error, PixserveError)
    if issubclass(kind, errors.MediaRefused):
        return kind(told.reason or "unknown", told.message)
    if issubclass(kind, Unavailable):
        return kind(told.part or "gateway", told.message)
    if kind is PixserveError:  # a bug of the gateway: its log says more under this id
        return kind(f"{told.message} (request {told.request_id})")
    return kind(told.message)


def _kinds(base: type[PixserveError]) -> dict[str, type[PixserveError]]:
    """Return a tree of errors by the word that replies name them with."""
    below = {k: v for child in base.__subclasses__() for k, v in _kinds(child).items()}
    return {base.kind: base} | below


def _cause(error: httpx.TransportError) -> str:
    return str(error) or type(error).__name__
