"""Requests to the gateway, as both clients send them. Pure."""

from typing import Any

import msgspec

from gateway.schemas import SearchRequest


def search_options(request: SearchRequest) -> dict[str, Any]:
    """Return the body of a search: JSON, or a form where it brings an image or a sound."""
    files: dict[str, Any] = {
        name: (name, data, "application/octet-stream")
        for name, data in (("image", request.image), ("audio", request.audio))
        if data is not None
    }
    if not files:
        return {"content": msgspec.json.encode(request)}
    told = msgspec.structs.replace(request, image=None, audio=None)
    return {"files": {"request": (None, msgspec.json.encode(told), "application/json")} | files}
