"""The routes of a video's pictures and of its file."""

import hashlib
from pathlib import Path
from typing import Any

import msgspec
from litestar import Response, get, route
from litestar.enums import HttpMethod
from litestar.response import Stream

from gateway.api.decoding import checked_id
from gateway.api.filenames import CONTENT_TYPES
from gateway.api.logs import current_request_id
from gateway.api.ranges import RangeNotSatisfiable, Span, is_unchanged, wanted_span
from gateway.api.service import Endpoint, Request, service_of
from gateway.catalogue.analyses import VideoRecord
from gateway.doors import Doors
from gateway.errors import InvalidRequest, NotFound
from gateway.media_schemas import Storyboard, Thumbnail
from gateway.schemas import ErrorReply
from ingest.thumbnails import THUMBNAILS_FILE, read_head, read_thumbnail

YEAR_S = 365 * 86_400
FOREVER = f"public, max-age={YEAR_S}, immutable"  # a segment's picture never changes its meaning
CHECKED = "public, no-cache"  # kept, but asked about each time: more PIX makes more segments
SAFE = {  # a stranger's bytes: shown as what they are called, and never run
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; media-src 'self'; img-src 'self'; sandbox",
}

PICTURE = Endpoint(reply=bytes, media_type="image/webp", also=(304,), errors=(400, 404, 503))
BOARD = Endpoint(reply=Storyboard, also=(304,), errors=(400, 404, 503))
FILE = Endpoint(
    reply=bytes, media_type="video/*", also=(206, 304), errors=(400, 404, 416, 429, 503)
)


@get("/v1/videos/{video_id:str}/thumbnails/{name:str}", opt=PICTURE.opt)
async def read_picture(request: Request, video_id: str, name: str) -> Response[bytes]:
    """Read the picture of a segment, `<segment_id>.webp`; it may be cached for ever."""
    segment_id, dot, suffix = name.rpartition(".")
    if not dot or suffix != "webp":
        raise InvalidRequest(f"thumbnails are named <segment_id>.webp, not {name[:100]!r}")
    doors = service_of(request).doors
    checked_id(segment_id, "segment_id")
    record = await _shown(doors, video_id)
    data = await doors.disk.call(
        read_thumbnail, _folder(doors, record) / THUMBNAILS_FILE, segment_id
    )
    return _cached(request, data, "image/webp", FOREVER)


@get("/v1/videos/{video_id:str}/storyboard", opt=BOARD.opt)
async def read_storyboard(request: Request, video_id: str) -> Response[bytes]:
    """Read which picture belongs to which segment of a video."""
    doors = service_of(request).doors
    record = await _shown(doors, video_id)
    segments = await doors.threads.call(doors.catalogue.segments_of, record.id)
    try:
        head, _ = await doors.disk.call(read_head, _folder(doors, record) / THUMBNAILS_FILE)
        width, height, there = head.width, head.height, frozenset(head.segments)
    except NotFound:  # sound alone, or analysed before there were thumbnails
        width, height, there = 0, 0, frozenset()
    board = Storyboard(
        video_id=record.id,
        width=width,
        height=height,
        thumbnails=tuple(
            Thumbnail(
                segment_id=segment.segment_id,
                start_s=segment.start_s,
                end_s=segment.end_s,
                url=f"/v1/videos/{record.id}/thumbnails/{segment.segment_id}.webp",
            )
            for segment in segments
            if segment.segment_id in there
        ),
    )
    return _cached(request, msgspec.json.encode(board), "application/json", CHECKED)


@route(
    "/v1/videos/{video_id:str}/file", http_method=[HttpMethod.GET, HttpMethod.HEAD], opt=FILE.opt
)
async def read_file(request: Request, video_id: str) -> Response[Any]:
    """Read a video's file as it was uploaded; `Range` asks for a part of it."""
    doors = service_of(request).doors
    record = await _shown(doors, video_id)
    path = _folder(doors, record) / record.source_name
    size = await doors.disk.call(_size_of, path)
    etag = f'"{record.content_sha256[:32]}"'
    headers = {
        **SAFE,
        "Accept-Ranges": "bytes",
        "ETag": etag,
        "Cache-Control": CHECKED,
        "Content-Disposition": f'inline; filename="{record.id}{path.suffix}"',
    }
    if is_unchanged(etag, request.headers.get("if-none-match")):
        return Response(b"", status_code=304, headers=headers)
    asked = request.headers.get("range")
    if request.headers.get("if-range", etag) != etag:
        asked = None  # the part that the client has is of another file
    try:
        span = wanted_span(asked, size)
    except RangeNotSatisfiable as error:
        return _not_satisfiable(request, error, headers)
    return _sent(request, doors, path, size, span, headers)


ROUTES = [read_picture, read_storyboard, read_file]


def _sent(
    request: Request,
    doors: Doors,
    path: Path,
    size: int,
    span: Span | None,
    headers: dict[str, str],
) -> Response[Any]:
    status = 200 if span is None else 206
    if span is not None:
        headers["Content-Range"] = f"bytes {span.begin}-{span.end - 1}/{size}"
    whole = span or Span(0, size)
    headers["Content-Length"] = str(whole.size)
    media_type = CONTENT_TYPES.get(path.suffix, "application/octet-stream")
    if request.method == "HEAD":
        return Response(b"", status_code=status, headers=headers, media_type=media_type)
    streams = service_of(request).files
    streams.require_place()
    content = streams.stream(doors, path, whole)
    return Stream(content, status_code=status, headers=headers, media_type=media_type)


def _not_satisfiable(
    request: Request, error: RangeNotSatisfiable, headers: dict[str, str]
) -> Response[Any]:
    told = ErrorReply(
        error="range_not_satisfiable", message=str(error), request_id=current_request_id.get()
    )
    unknown = {"Content-Range": f"bytes */{error.size}"}
    body = b"" if request.method == "HEAD" else msgspec.json.encode(told)
    return Response(
        body, status_code=416, headers={**headers, **unknown}, media_type="application/json"
    )


async def _shown(doors: Doors, video_id: str) -> VideoRecord:
    """Return a video whose files may be shown; raises `NotFound`."""
    checked = checked_id(video_id, "video_id")
    record = await doors.threads.call(doors.catalogue.analyses.record, checked)
    if record.state == "deleting":
        raise NotFound(f"there is no video {checked}")
    return record


def _folder(doors: Doors, record: VideoRecord) -> Path:
    return doors.settings.videos_dir / record.id


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError as error:
        raise NotFound("the file of this video is not there any more") from error


def _cached(request: Request, data: bytes, media_type: str, policy: str) -> Response[bytes]:
    """Return bytes with what lets a client keep them, or say that it has them already."""
    etag = f'"{hashlib.sha256(data).hexdigest()[:32]}"'
    headers = {**SAFE, "ETag": etag, "Cache-Control": policy}
    if is_unchanged(etag, request.headers.get("if-none-match")):
        return Response(b"", status_code=304, headers=headers)
    return Response(data, headers=headers, media_type=media_type)
