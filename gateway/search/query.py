"""What a search asks for, checked as far as a schema cannot. Pure."""

from dataclasses import dataclass, field

from ensembles.contracts import MAX_TEXT_BYTES
from gateway.errors import InvalidRequest, TooLarge
from gateway.schemas import InputWeights, SearchRequest
from gateway.search.exclude import split_exclusions
from gateway.settings import Settings

MAX_QUERY_AUDIO_BYTES = 16 * 1024**2  # of one query sound: 30 s, even as uncompressed stereo
MAX_QUERY_CLIP_BYTES = 24 * 1024**2  # of one query clip: 30 s at 6.7 Mbit/s


@dataclass(frozen=True)
class Query:
    """At least one of text, image, audio, clip and like is there."""

    text: str  # without what it excludes; "": no words
    image: bytes  # b"": no image
    audio: bytes  # b"": no sound
    deadline_s: float
    clip: bytes = b""  # b"": no clip
    excluded: tuple[str, ...] = ()  # words and phrases that no hit may say
    away: str = ""  # a text whose direction is taken away; "": none
    like: str = ""  # a segment's id; "": none
    own_video: bool = True  # the video of `like` may be found
    input_weights: InputWeights = field(default_factory=InputWeights)

    @property
    def words_alone(self) -> bool:
        """Nothing but words say what is looked for."""
        return bool(self.text) and not (self.image or self.audio or self.clip or self.like)

    @property
    def like_video(self) -> str:
        """The video of the segment of `like`, whose id begins with it."""
        return self.like.rpartition("-")[0]


def read_query(request: SearchRequest, settings: Settings) -> Query:
    """Return what a request asks for.

    Raises:
        InvalidRequest: it asks for nothing, or for what it excludes, or its text is not valid
            Unicode.
        TooLarge: its text, image, sound or clip is over its limit.
    """
    told = _checked_text("the query", request.query)
    text, excluded = split_exclusions(told)
    image = _media("image", request.image, settings.max_query_image_bytes)
    audio = _media("audio", request.audio, MAX_QUERY_AUDIO_BYTES)
    clip = _media("clip", request.clip, MAX_QUERY_CLIP_BYTES)
    if not (text or image or audio or clip or request.like):
        raise InvalidRequest(
            "the search is empty: give words, an image, a sound, a clip or the segment that others "
            "are to be like" + (", beside what is excluded" if excluded or request.not_ else "")
        )
    if not request.own_video and not request.like:
        raise InvalidRequest("own_video is about the video of `like`: give a segment's id there")
    default_ms = settings.media_deadline_ms if image or audio else settings.search_deadline_ms
    default_ms = settings.clip_deadline_ms if clip else default_ms
    return Query(
        text=text,
        image=image,
        audio=audio,
        deadline_s=(request.deadline_ms or default_ms) / 1_000,
        clip=clip,
        excluded=excluded,
        away=_checked_text("not", request.not_),
        like=request.like or "",
        own_video=request.own_video,
        input_weights=request.input_weights,
    )


def _checked_text(what: str, given: str | None) -> str:
    text = (given or "").strip()
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"{what} is not valid Unicode") from error
    if size > MAX_TEXT_BYTES:
        raise TooLarge(f"{what} has {size} bytes, {MAX_TEXT_BYTES} are allowed: shorten it")
    return text


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
