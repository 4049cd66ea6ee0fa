"""The routes of videos, their PIX and their jobs."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Annotated

from litestar import delete, get, patch, post
from litestar.exceptions import InternalServerException
from msgspec import Meta

from gateway.api.copies import copy_metadata
from gateway.api.decoding import Query, checked_id, decode_json, decode_query
from gateway.api.service import Endpoint, Request, Service, service_of
from gateway.errors import InvalidRequest, PixserveError
from gateway.schemas import (
    Accepted,
    Investment,
    InvestmentRequest,
    Job,
    Strict,
    Video,
    VideoMetadata,
    VideoPage,
    VideoPatch,
)
from ingest.depth import deeper

MAX_PAGE = 100  # videos
DRAIN_BYTES = 64 * 1024**2  # of a refused upload are read, so that its client reads the reply
DRAIN_S = 5.0

log = logging.getLogger("pixserve.videos")


class VideosQuery(Strict, frozen=True, kw_only=True):
    """`GET /v1/videos`."""

    after: Annotated[str, Meta(max_length=200)] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_PAGE)] = 20


VIDEOS_QUERY = Query(VideosQuery)
UPLOAD = Endpoint(
    reply=Accepted,
    status=202,
    form={"file": bytes, "metadata": VideoMetadata, "transcript": bytes},
    errors=(400, 409, 413, 422, 429, 503, 507),
)
LIST = Endpoint(reply=VideoPage, query=VIDEOS_QUERY, errors=(400, 503))
READ = Endpoint(reply=Video, errors=(400, 404, 503))
CHANGE = Endpoint(reply=Video, body=VideoPatch, errors=(400, 404, 409, 503))
DELETE = Endpoint(reply=Job, status=202, errors=(400, 404, 503))
INVEST = Endpoint(reply=Investment, status=201, body=InvestmentRequest, errors=(400, 404, 409, 503))


@post("/v1/videos", status_code=202, request_max_body_size=None, opt=UPLOAD.opt)
async def upload_video(request: Request) -> Accepted:
    """Send a video: its file, its metadata, and a transcript (.srt or .vtt) where there is one.

    Answers when the file is complete, probed and safe on the disk; the job then analyses it.
    """
    chunks = _connected(request)
    try:
        return await service_of(request).uploads.accept(
            chunks, request.headers.get("content-type", ""), request.content_length
        )
    except PixserveError:
        await _drain(chunks)
        raise


@get("/v1/videos", opt=LIST.opt)
async def list_videos(request: Request) -> VideoPage:
    """List videos, newest first."""
    query = decode_query(request.query_params.multi_items(), VIDEOS_QUERY)
    doors = service_of(request).doors
    return await doors.threads.call(doors.catalogue.library.page, query.after, query.limit)


@get("/v1/videos/{video_id:str}", opt=READ.opt)
async def read_video(request: Request, video_id: str) -> Video:
    """Read a video, and how far each of its modalities is."""
    doors = service_of(request).doors
    return await doors.threads.call(doors.catalogue.library.video, checked_id(video_id, "video_id"))


@patch("/v1/videos/{video_id:str}", opt=CHANGE.opt)
async def change_video(request: Request, video_id: str) -> Video:
    """Change a video's metadata; PIX is not among it. Searches see the change at once."""
    service = service_of(request)
    change = decode_json(await request.body(), VideoPatch)
    async with service.patching:
        library = service.doors.catalogue.library
        video = await service.doors.threads.call(
            library.patch, checked_id(video_id, "video_id"), change
        )
        await _update_index(service, video)
    return video


@delete("/v1/videos/{video_id:str}", status_code=202, opt=DELETE.opt)
async def delete_video(request: Request, video_id: str) -> Job:
    """Delete a video: searches miss it at once, the job removes all that is left of it."""
    doors = service_of(request).doors
    return await doors.threads.call(
        doors.catalogue.library.begin_delete, checked_id(video_id, "video_id")
    )


@post("/v1/videos/{video_id:str}/investments", opt=INVEST.opt)
async def invest(request: Request, video_id: str) -> Investment:
    """Add PIX to a video. The key makes a retry safe: used again, it adds nothing."""
    doors = service_of(request).doors
    investment = decode_json(await request.body(), InvestmentRequest)
    return await doors.threads.call(
        doors.catalogue.ledger.invest,
        checked_id(video_id, "video_id"),
        investment,
        deeper(doors.settings),
    )


ROUTES = [
    upload_video,
    list_videos,
    read_video,
    change_video,
    delete_video,
    invest,
]


async def _update_index(service: Service, video: Video) -> None:
    """Change the index's copies now; where that is not possible, the worker does it soon."""
    doors = service.doors
    if video.state != "ready":
        return
    if await doors.threads.call(doors.catalogue.jobs.is_running, video.id):
        return
    try:
        await copy_metadata(doors, video.id)
    except PixserveError as error:
        log.warning("the index has the old metadata of %s until later: %s", video.id, error)


async def _connected(request: Request) -> AsyncIterator[bytes]:
    """Pass the body on; a connection that ends early is the client's mistake, not ours."""
    try:
        async for chunk in request.stream():
            yield chunk
    except InternalServerException as error:
        raise InvalidRequest("the connection ended before the upload was complete") from error


async def _drain(chunks: AsyncIterator[bytes]) -> None:
    """Read on for a while: a client that is still sending would not read a reply."""
    read = 0
    try:
        async with asyncio.timeout(DRAIN_S):
            async for chunk in chunks:
                read += len(chunk)
                if read > DRAIN_BYTES:
                    return
    except (TimeoutError, PixserveError):
        return
