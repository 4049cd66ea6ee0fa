"""The targets: what each sends, and what its answer means.

A sender takes one payload and returns an `Answer`. It raises nothing but what is a bug: whatever a
server does wrong is a failed answer with a short reason.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

import msgspec

from gateway.errors import PixserveError
from gateway.schemas import Accepted, ErrorReply, Job, StageTimes, VideoMetadata
from gateway.triton import Triton, served_bundle
from loadtest.harness.materials import METADATA_S, VideoFile
from loadtest.harness.records import MAX_STAGES, STAGES, UPLOAD_STAGES, Outcome
from loadtest.harness.scenario import (
    OF_TRITON,
    EmbedImages,
    EmbedQuery,
    EmbedVideo,
    HttpGet,
    SearchImage,
    SearchText,
    Target,
    Upload,
)
from loadtest.harness.worker.http import HttpClient, NoReply, Reply, Request
from loadtest.harness.worker.share import NO_STAGES, Share

JOB_POLL_S = 0.1  # between questions about an upload: what is searchable is known to within this
ENDED = frozenset({"succeeded", "failed", "cancelled"})
MAX_REASON_CHARS = 80
OK_STATUS = 200


@dataclass(frozen=True)
class Answer:
    """What came of one request."""

    outcome: Outcome
    reason: str = ""  # of a failure
    stages_ms: tuple[float, ...] = NO_STAGES
    found: tuple[str, ...] = ()  # segment ids of a search
    made: str = ""  # id of an uploaded video
    model_version: str = ""
    random_weights: bool = False


Sender = Callable[[Any], Awaitable[Answer]]

WHOLE = Answer(Outcome.OK)


class _Moment(msgspec.Struct):
    segment_id: str


class _Hit(msgspec.Struct):
    moments: list[_Moment]


class _SearchReply(msgspec.Struct):
    """As much of a `SearchReply` as is needed here."""

    hits: list[_Hit]
    model_version: str
    degraded: list[str]
    stage_ms: StageTimes
    random_weights: bool = False


_decode_search = msgspec.json.Decoder(_SearchReply).decode


@asynccontextmanager
async def open_senders(share: Share) -> AsyncIterator[list[Sender]]:
    """Open the connections of a share and yield one sender a target.

    Raises:
        PixserveError: Triton does not answer.
    """
    async with AsyncExitStack() as stack:
        http = await stack.enter_async_context(HttpClient(share.url))
        triton: Triton | None = None
        if any(isinstance(target, OF_TRITON) for target in share.targets):
            bundle = await served_bundle(share.triton, timeout_s=METADATA_S)
            triton = Triton(share.triton, bundle)
            stack.push_async_callback(triton.close)
        yield [_sender(target, http, triton, share.run_id) for target in share.targets]


def _sender(target: Target, http: HttpClient, triton: Triton | None, run_id: str) -> Sender:
    match target:
        case SearchText():
            return lambda query: _search(http, search_request(target, query))
        case SearchImage():
            return lambda image: _search(http, _image_request(target, image))
        case Upload():
            return _Uploads(http, run_id).send
        case HttpGet():
            return lambda path: _get(http, path or target.path)
        case EmbedQuery() | EmbedImages() | EmbedVideo():
            assert triton is not None
            return _triton_sender(target, triton)


# ---- HTTP ---------------------------------------------------------------------------------------


def search_request(target: SearchText, query: str, deadline_ms: int | None = None) -> Request:
    """Return the request for a search with words; `deadline_ms` takes the target's place."""
    asked: dict[str, str] = {"q": query, "limit": str(target.limit)}
    if target.mode != "auto":
        asked["mode"] = target.mode
    if target.group != "video":
        asked["group"] = target.group
    if limit_ms := deadline_ms or target.deadline_ms:
        asked["deadline_ms"] = str(limit_ms)
    return Request("GET", f"/v1/search?{urlencode(asked)}")


def _image_request(target: SearchImage, image: bytes) -> Request:
    told = msgspec.json.encode({"limit": target.limit})
    form = {
        "request": ("", told, "application/json"),
        "image": ("query.jpg", image, "image/jpeg"),
    }
    return Request("POST", "/v1/search", form=form)


async def _search(http: HttpClient, request: Request) -> Answer:
    try:
        return read_search(await http.exchange(request))
    except NoReply as error:
        return failed(str(error))


def read_search(reply: Reply) -> Answer:
    """Say what a reply to a search means."""
    if reply.status != OK_STATUS:
        return failed(_refusal(reply))
    try:
        told = _decode_search(reply.body)
    except msgspec.MsgspecError:
        return failed(f"200, but no search reply ({reply.content_type.partition(';')[0]})")
    return Answer(
        Outcome.DEGRADED if told.degraded else Outcome.OK,
        stages_ms=tuple(getattr(told.stage_ms, stage) for stage in STAGES),
        found=tuple(moment.segment_id for hit in told.hits for moment in hit.moments),
        model_version=told.model_version,
        random_weights=told.random_weights,
    )


async def _get(http: HttpClient, path: str) -> Answer:
    try:
        reply = await http.exchange(Request("GET", path))
    except NoReply as error:
        return failed(str(error))
    return WHOLE if reply.status < 400 else failed(_refusal(reply))


def failed(reason: str) -> Answer:
    """Return a failed answer."""
    return Answer(Outcome.FAILED, reason=reason[:MAX_REASON_CHARS])


def _refusal(reply: Reply) -> str:
    """Name a status that is an error; the kind and the part where pixserve tells them."""
    try:
        told = msgspec.json.decode(reply.body, type=ErrorReply)
    except msgspec.MsgspecError:
        return f"{reply.status} ({reply.content_type.partition(';')[0] or 'no type'})"
    return " ".join(str(word) for word in (reply.status, told.error, told.part) if word)


class _Uploads:
    """Uploads, each as a creator of its own, so that none is a repetition."""

    def __init__(self, http: HttpClient, run_id: str) -> None:
        self._http = http
        self._run_id = run_id
        self._count = 0

    async def send(self, video: VideoFile) -> Answer:
        """Upload and wait until the job has ended."""
        clock = asyncio.get_running_loop().time
        start_s = clock()
        try:
            accepted = _expect(await self._http.exchange(self._request(video)), Accepted)
        except (NoReply, _Refused) as error:
            return failed(str(error))
        accepted_s = clock()
        try:
            job = await self._ended(accepted.job_id)
        except (NoReply, _Refused) as error:
            return replace(failed(str(error)), made=accepted.video_id)
        times_ms = ((accepted_s - start_s) * 1_000, (clock() - accepted_s) * 1_000)
        padding = NO_STAGES[: MAX_STAGES - len(UPLOAD_STAGES)]
        outcome = Outcome.OK if job.state == "succeeded" else Outcome.FAILED
        reason = "" if outcome is Outcome.OK else f"the job {job.state}"
        return Answer(outcome, reason, (*times_ms, *padding), made=accepted.video_id)

    def _request(self, video: VideoFile) -> Request:
        self._count += 1
        creator = f"loadtest-{self._run_id}-{self._count}"
        metadata = VideoMetadata(title=f"load test: {video.path.stem}", creator_id=creator)
        form = {
            "metadata": ("", msgspec.json.encode(metadata), "application/json"),
            "file": (video.path.name, video.path.read_bytes(), "application/octet-stream"),
        }
        if video.transcript is not None:
            form["transcript"] = (
                video.transcript.name,
                video.transcript.read_bytes(),
                "text/plain",
            )
        return Request("POST", "/v1/videos", form=form)

    async def _ended(self, job_id: str) -> Job:
        while True:
            job: Job = _expect(await self._http.exchange(Request("GET", f"/v1/jobs/{job_id}")), Job)
            if job.state in ENDED:
                return job
            await asyncio.sleep(JOB_POLL_S)


class _Refused(Exception):  # noqa: N818
    """An answer that is an error."""


def _expect(reply: Reply, kind: type[Any]) -> Any:
    if reply.status >= 400:
        raise _Refused(_refusal(reply))
    try:
        return msgspec.json.decode(reply.body, type=kind)
    except msgspec.MsgspecError as error:
        raise _Refused(f"{reply.status}, but not as pixserve answers") from error


# ---- Triton -------------------------------------------------------------------------------------


def _triton_sender(target: EmbedQuery | EmbedImages | EmbedVideo, triton: Triton) -> Sender:
    timeout_s = target.timeout_s
    match target:
        case EmbedQuery():
            return lambda text: _embed(triton.embed_query(text, timeout_s=timeout_s))
        case EmbedImages():
            count = target.batch
            return lambda image: _embed(triton.embed_images([image] * count, timeout_s=timeout_s))
        case EmbedVideo():
            return lambda chunk: _embed(triton.embed_video(chunk, timeout_s=timeout_s))


async def _embed(call: Awaitable[object]) -> Answer:
    try:
        await call
    except PixserveError as error:
        return failed(f"{error.kind}: {error.message}")
    return WHOLE
