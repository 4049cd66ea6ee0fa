"""What a search asks for, checked as far as a schema cannot. Pure."""

from dataclasses import dataclass

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.errors import InvalidRequest, TooLarge
from gateway.schemas import SearchRequest
from gateway.settings import Settings

MAX_QUERY_AUDIO_BYTES = 16 * 1024**2  # of one query sound: 30 s, even as uncompressed stereo


@dataclass(frozen=True)
class Query:
    """At least one of the three is there."""

    text: str  # "": no words
    image: bytes  # b"": no image
    audio: bytes  # b"": no sound
    deadline_s: float


def read_query(request: SearchRequest, settings: Settings) -> Query:
    """Return what a request asks for.

    Raises:
        InvalidRequest: it asks for nothing, or its text is not valid Unicode.
        TooLarge: its text, image or sound is over its limit.
    """
    text = (request.query or "").strip()
    _check_text(text)
    image = _media("image", request.image, settings.max_query_image_bytes)
    audio = _media("audio", request.audio, MAX_QUERY_AUDIO_BYTES)
    if not (text or image or audio):
        raise InvalidRequest("the search is empty: give words, an image or a sound")
    default_ms = settings.media_deadline_ms if image or audio else settings.search_deadline_ms
    return Query(text, image, audio, (request.deadline_ms or default_ms) / 1_000)


def _check_text(text: str) -> None:
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest("the query is not valid Unicode") from error
    if size > MAX_TEXT_BYTES:
        raise TooLarge(f"the query has {size} bytes, {MAX_TEXT_BYTES} are allowed: shorten it")


def _media(name: str, data: bytes | None, limit: int) -> bytes:
    if data is None:
        return b""
    if not data:
        raise InvalidRequest(f"the query's {name} is empty: send a file or leave the field out")
    if len(data) > limit:
        raise TooLarge(
            f"the query's {name} has {len(data)} bytes, {limit} are allowed: send a smaller one"
        )
    return data
