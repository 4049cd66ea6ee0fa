"""Requests to the gateway, as both clients send them. Pure."""

from typing import Any

import msgspec

from gateway.schemas import MEDIA, SearchRequest


def search_options(request: SearchRequest) -> dict[str, Any]:
    """Return the body of a search: JSON, or a form where it brings a file."""
    files: dict[str, Any] = {
        name: (name, data, "application/octet-stream")
        for name in MEDIA
        if (data := getattr(request, name)) is not None
    }
    if not files:
        return {"content": msgspec.json.encode(request)}
    told = msgspec.structs.replace(request, **dict.fromkeys(MEDIA))
    return {"files": {"request": (None, msgspec.json.encode(told), "application/json")} | files}
