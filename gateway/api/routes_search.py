"""The routes of the search: by parameters, by JSON, by a form with files."""

from collections.abc import Iterable
from typing import Annotated

import msgspec
from litestar import Response, get, post
from msgspec import Meta

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.api.decoding import Query, decode_json, decode_query
from gateway.api.forms import Field, MemoryField, is_multipart, read_form
from gateway.api.logs import current_request_id
from gateway.api.service import Endpoint, Request, Service, service_of
from gateway.errors import InvalidRequest
from gateway.schemas import (
    MAX_DEADLINE_MS,
    MAX_LIMIT,
    MEDIA,
    DeadlineMs,
    Mode,
    SearchReply,
    SearchRequest,
    Strict,
)
from gateway.search.query import MAX_QUERY_AUDIO_BYTES, MAX_QUERY_CLIP_BYTES
from gateway.search.search import search

MAX_REQUEST_BYTES = 64 * 1024  # of the JSON part of a form
MAX_BODY_BYTES = 80 * 1024**2  # an image, a sound and a clip at their limits, in base64
DEADLINE_HEADER = "X-Deadline-Ms"
DECODE_INLINE_BYTES = 64 * 1024  # JSON over this is decoded beside the event loop

Words = Annotated[str, Meta(max_length=MAX_TEXT_BYTES)]
Limit = Annotated[int, Meta(ge=1, le=MAX_LIMIT)]


class QuickQuery(Strict, frozen=True, kw_only=True):
    """`GET /search/quick`."""

    q: Words
    limit: Limit = 10


class QuickModeQuery(Strict, frozen=True, kw_only=True):
    """`GET /search/multimodal/quick`."""

    q: Words
    mode: Mode = "auto"
    limit: Limit = 10


SEARCH_QUERY = Query(SearchRequest, aliases={"q": "query"}, hidden=frozenset(MEDIA))
QUICK_QUERY = Query(QuickQuery)
QUICK_MODE_QUERY = Query(QuickModeQuery)

_ERRORS = (400, 404, 429, 503, 504)
BY_QUERY = Endpoint(reply=SearchReply, query=SEARCH_QUERY, errors=_ERRORS)
BY_BODY = Endpoint(
    reply=SearchReply,
    body=SearchRequest,
    form={"request": SearchRequest} | dict.fromkeys(MEDIA, bytes),
    errors=(400, 404, 413, 422, 429, 503, 504),
)
QUICK = Endpoint(reply=SearchReply, query=QUICK_QUERY, errors=_ERRORS)
QUICK_MODE = Endpoint(reply=SearchReply, query=QUICK_MODE_QUERY, errors=_ERRORS)


@get("/v1/search", opt=BY_QUERY.opt)
async def search_by_query(request: Request) -> Response[SearchReply]:
    """Search with words. Filters and weights are written with a dot: `filters.min_pix=10`."""
    return await _answer(request, decode_query(request.query_params.multi_items(), SEARCH_QUERY))


@post("/v1/search", status_code=200, request_max_body_size=MAX_BODY_BYTES, opt=BY_BODY.opt)
async def search_by_body(request: Request) -> Response[SearchReply]:
    """Search with words, an image, a sound, a clip, or several of them: as JSON, or as a form."""
    service = service_of(request)
    content_type = request.headers.get("content-type", "")
    if is_multipart(content_type):
        return await _answer(request, await _read_form(request, service))
    body = await request.body()
    if len(body) <= DECODE_INLINE_BYTES:
        return await _answer(request, decode_json(body, SearchRequest))
    decoded = await service.doors.disk.call(decode_json, body, SearchRequest)
    return await _answer(request, decoded)


@get("/search/quick", opt=QUICK.opt)
async def search_quick(request: Request) -> Response[SearchReply]:
    """Search with words and the defaults."""
    query = decode_query(request.query_params.multi_items(), QUICK_QUERY)
    return await _answer(request, SearchRequest(query=query.q, limit=query.limit))


@get("/search/multimodal/quick", opt=QUICK_MODE.opt)
async def search_quick_with_mode(request: Request) -> Response[SearchReply]:
    """Search with words in one of the modes."""
    query = decode_query(request.query_params.multi_items(), QUICK_MODE_QUERY)
    asked = SearchRequest(query=query.q, mode=query.mode, limit=query.limit)
    return await _answer(request, asked)


ROUTES = [search_by_query, search_by_body, search_quick, search_quick_with_mode]


async def _answer(request: Request, told: SearchRequest) -> Response[SearchReply]:
    service = service_of(request)
    asked = under_deadline(told, request.headers.get(DEADLINE_HEADER))
    doors = service.doors
    found = await search(asked, doors, doors.settings)
    service.metrics.observe_search(found)
    reply = msgspec.structs.replace(found, request_id=current_request_id.get())
    return Response(reply, headers={"Server-Timing": _server_timing(found)})


def under_deadline(asked: SearchRequest, header: str | None) -> SearchRequest:
    """Return a search with the deadline of its header; the shorter one holds where it has two.

    Raises:
        InvalidRequest: the header is no number of milliseconds that a search may have.
    """
    if header is None:
        return asked
    try:
        told_ms = msgspec.convert(header, DeadlineMs, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{DEADLINE_HEADER}: expected 1 to {MAX_DEADLINE_MS} milliseconds, got {header[:50]!r}"
        ) from error
    return msgspec.structs.replace(asked, deadline_ms=min(told_ms, asked.deadline_ms or told_ms))


async def _read_form(request: Request, service: Service) -> SearchRequest:
    told = MemoryField("request", MAX_REQUEST_BYTES)
    media = {
        "image": MemoryField("image", service.doors.settings.max_query_image_bytes),
        "audio": MemoryField("audio", MAX_QUERY_AUDIO_BYTES),
        "clip": MemoryField("clip", MAX_QUERY_CLIP_BYTES),
    }
    fields: dict[str, Field] = {"request": told, **media}
    await read_form(
        request.stream(), request.headers.get("content-type", ""), fields, MAX_BODY_BYTES
    )
    asked = decode_json(told.data or b"{}", SearchRequest, "request")
    files = {name: field.data for name, field in media.items() if field.given}
    return msgspec.structs.replace(asked, **files)


def _server_timing(reply: SearchReply) -> str:
    times = msgspec.structs.asdict(reply.stage_ms)
    return ", ".join(_entries(times.items()))


def _entries(times: Iterable[tuple[str, float]]) -> Iterable[str]:
    return (f"{stage};dur={ms:.3f}" for stage, ms in times)
