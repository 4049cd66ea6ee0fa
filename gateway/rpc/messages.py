"""Between protobuf's messages and the structs of the API. Pure.

Both have the same fields, so that the structs' own limits hold for messages too.
"""

from typing import Any

import msgspec
from google.protobuf.json_format import MessageToDict
from google.protobuf.unknown_fields import UnknownFieldSet

from gateway.errors import InvalidRequest
from gateway.rpc.search_pb2 import SearchReply as ReplyMessage
from gateway.rpc.search_pb2 import SearchRequest as RequestMessage
from gateway.schemas import MAX_DEADLINE_MS, MEDIA, SearchReply, SearchRequest


def request_of(message: RequestMessage, left_s: float | None) -> SearchRequest:
    """Return what a message asks for.

    Args:
        message: as it came.
        left_s: until the call's deadline; None where it has none.

    Raises:
        InvalidRequest: a field breaks its limits, or is not known.
    """
    _refuse_unknown(message)
    # Bytes would travel in base64 if they went by JSON.
    media = {name: getattr(message, name) for name in MEDIA if message.HasField(name)}
    for name in media:
        message.ClearField(name)
    told = MessageToDict(message, preserving_proto_field_name=True)
    try:
        asked = msgspec.convert(told | media, SearchRequest)
    except msgspec.ValidationError as error:
        raise InvalidRequest(str(error)) from error
    if left_s is None:
        return asked
    left_ms = min(max(1, int(left_s * 1_000)), asked.deadline_ms or MAX_DEADLINE_MS)
    return msgspec.structs.replace(asked, deadline_ms=left_ms)


def _refuse_unknown(message: Any) -> None:
    """Refuse fields that this version does not know, as JSON's are."""
    strangers = UnknownFieldSet(message)
    if len(strangers):
        name, number = message.DESCRIPTOR.name, strangers[0].field_number
        raise InvalidRequest(f"{name} has no field {number}: see search.proto of this version")
    for field, value in message.ListFields():
        if field.message_type is not None:
            _refuse_unknown(value)


def message_of(reply: SearchReply) -> ReplyMessage:
    """Return a reply as a message."""
    return ReplyMessage(**msgspec.to_builtins(reply))
