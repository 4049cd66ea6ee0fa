"""The typed client for asyncio: searches and reads, any number of them at once."""

from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
import msgspec

from gateway import errors
from gateway.client_replies import DEFAULT_URL, mapped, raised, read_reply
from gateway.client_requests import search_options
from gateway.schemas import Health, Job, SearchReply, SearchRequest, Video

TIMEOUT_S = 30.0  # without a byte
MAX_CONNECTIONS = 100  # of one client; further requests wait for one

T = TypeVar("T", bound=msgspec.Struct)


class AsyncClient:
    """Connections to one gateway; use it as an async context manager, from one event loop.

    Every method raises what the gateway raised (`gateway.errors`), and `Unavailable("gateway")`
    where there is none. What changes anything is in `gateway.client.Client`.

    Args:
        base_url: where the gateway is.
        timeout_s: how long it may be silent.
    """

    def __init__(self, base_url: str = DEFAULT_URL, timeout_s: float = TIMEOUT_S) -> None:
        limits = httpx.Limits(max_connections=MAX_CONNECTIONS)
        try:
            self._http = httpx.AsyncClient(base_url=base_url, timeout=timeout_s, limits=limits)
        except httpx.InvalidURL as error:
            raise errors.ConfigurationError(f"{base_url!r} is no URL like {DEFAULT_URL}") from error
        self.base_url = base_url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def search(self, request: SearchRequest) -> SearchReply:
        """Search with words, an image, a sound, a clip, a segment, or several of them."""
        return await self._send(SearchReply, "POST", "/v1/search", **search_options(request))

    async def video(self, video_id: str) -> Video:
        """Read a video."""
        return await self._send(Video, "GET", f"/v1/videos/{video_id}")

    async def job(self, job_id: str) -> Job:
        """Read a job."""
        return await self._send(Job, "GET", f"/v1/jobs/{job_id}")

    async def ready(self) -> Health:
        """Read whether a search can be answered; an unavailable stack is a reply, not an error."""
        reply = await self._request("GET", "/health/ready")
        if reply.status_code in (200, 503):
            return read_reply(reply, Health)
        raise raised(reply)

    async def _send(self, kind: type[T], method: str, path: str, **options: Any) -> T:
        reply = await self._request(method, path, **options)
        if reply.is_error:
            raise raised(reply)
        return read_reply(reply, kind)

    async def _request(self, method: str, path: str, **options: Any) -> httpx.Response:
        with mapped(self.base_url):
            return await self._http.request(method, path, **options)
