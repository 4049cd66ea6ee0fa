"""What travels over HTTP: requests and replies as strict, frozen structs."""

from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from ensembles.bundle import Intent
from ensembles.contracts import MAX_TEXT_BYTES

MAX_LIMIT = 100  # hits in one page
MAX_TAGS = 32
MAX_TAG_CHARS = 64
MAX_TITLE_CHARS = 200
MAX_DESCRIPTION_CHARS = 5_000
MAX_PIX = 1_000_000_000  # of one investment
MAX_FILTER_VALUES = 100  # of one filter; of videos 1,000
MAX_DEADLINE_MS = 60_000
MAX_CURSOR_CHARS = 512

Mode = Literal["auto", "balanced", "vision_heavy", "text_heavy", "audio_heavy"]
Group = Literal["video", "segment"]
FusionRule = Literal["weighted", "rrf", "minmax"]
Level = Literal["segment", "scene"]
Sort = Literal["relevance", "date", "pix"]
LegName = Literal["visual", "speech", "sound", "fused", "keyword"]
JobState = Literal["queued", "running", "succeeded", "failed", "cancelled"]
VideoState = Literal["queued", "processing", "ready", "failed", "deleting"]

# `$` alone would let a newline at the end pass.
Id = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}(?!\n)$")]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Tag = Annotated[str, Meta(min_length=1, max_length=MAX_TAG_CHARS)]
Tags = Annotated[tuple[Tag, ...], Meta(max_length=MAX_TAGS)]
Title = Annotated[str, Meta(max_length=MAX_TITLE_CHARS)]
Description = Annotated[str, Meta(max_length=MAX_DESCRIPTION_CHARS)]
Language = Annotated[str, Meta(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*(?!\n)$")]
Weight = Annotated[float, Meta(ge=0, le=1)]
DeadlineMs = Annotated[int, Meta(ge=1, le=MAX_DEADLINE_MS)]
# A segment's id: its video's, and when it starts in milliseconds.
SegmentId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}-[0-9]{9}(?!\n)$")]
Time = Annotated[datetime, Meta(tz=True)]  # RFC 3339 with its offset from UTC


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The base of what clients send: unknown fields are refused."""


class Reply(msgspec.Struct, frozen=True):
    """The base of what clients read."""


# ---- search -------------------------------------------------------------------------------------


class Filters(Strict, frozen=True, kw_only=True):
    """What a hit's video must be; every field that is set must hold."""

    category: Annotated[tuple[Word, ...], Meta(max_length=MAX_FILTER_VALUES)] = ()  # any of these
    creator_id: Annotated[tuple[Id, ...], Meta(max_length=MAX_FILTER_VALUES)] = ()  # any of these
    language: Annotated[tuple[Language, ...], Meta(max_length=MAX_FILTER_VALUES)] = ()  # any
    tags: Tags = ()  # all of these
    video_id: Annotated[tuple[Id, ...], Meta(max_length=10 * MAX_FILTER_VALUES)] = ()  # any
    min_pix: Annotated[int, Meta(ge=0, le=MAX_PIX)] | None = None
    min_duration_s: Annotated[float, Meta(ge=0)] | None = None
    max_duration_s: Annotated[float, Meta(ge=0)] | None = None
    created_after: Time | None = None  # uploaded then or later
    created_before: Time | None = None  # uploaded earlier
    level: Level = "segment"  # scene: of each scene its best segment alone


class LegWeights(Strict, frozen=True, kw_only=True):
    """Explicit weights of the legs; a leg at 0 is not run. They need not sum to one."""

    visual: Weight = 0.0
    speech: Weight = 0.0
    sound: Weight = 0.0
    fused: Weight = 0.0
    keyword: Weight = 0.0


class InputWeights(Strict, frozen=True, kw_only=True):
    """How much each input of a query counts in the legs that search with several of them."""

    text: Weight = 1.0
    image: Weight = 1.0
    audio: Weight = 1.0
    clip: Weight = 1.0
    like: Weight = 1.0


class SearchRequest(Strict, frozen=True, kw_only=True):
    """`POST /v1/search`: words, an image, a sound, a clip, a segment, or several of them."""

    query: Annotated[str, Meta(max_length=MAX_TEXT_BYTES)] | None = None  # -word excludes
    not_: Annotated[str, Meta(max_length=MAX_TEXT_BYTES)] | None = msgspec.field(
        name="not", default=None
    )  # a text whose direction is taken away from what is asked for
    like: SegmentId | None = None  # more like this segment, which is not among the hits
    own_video: bool = True  # False: nothing of the video of `like` either
    input_weights: InputWeights = InputWeights()
    image: bytes | None = None  # base64 in JSON: JPEG, PNG or WebP
    audio: bytes | None = None  # base64 in JSON: any audio file, 30 s at most
    clip: bytes | None = None  # base64 in JSON: MP4, WebM or Matroska, 30 s at most
    mode: Mode = "auto"  # auto: by what the words ask for
    weights: LegWeights | None = None  # in place of the mode
    category: Word | None = None  # shifts the weights; does not filter
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 10
    group: Group = "video"
    filters: Filters = Filters()
    pix_weight: Annotated[float, Meta(ge=0, le=0.5)] | None = None  # β; None: the server's
    fusion_rule: FusionRule = "weighted"  # how the legs are brought together
    cutoff: Weight | None = None  # least evidence of the surest hit, of others half; None: default
    show_cut: bool = False  # also say what was cut off
    collapse: bool = False  # hits that are nearly the same become one
    diversity: Weight = 0.0  # 0: by relevance alone; 1: each hit as unlike the others as can be
    sort: Sort = "relevance"  # of the hits that are relevant
    cursor: Annotated[str, Meta(max_length=MAX_CURSOR_CHARS)] | None = None  # `next` of a page
    deadline_ms: DeadlineMs | None = None  # also the header X-Deadline-Ms; the shorter one holds


MEDIA = ("image", "audio", "clip")  # fields of a search that are files


class LegScore(Reply, frozen=True, kw_only=True):
    """One leg's part in a hit's score."""

    leg: LegName
    raw: float  # the engine's own score: a cosine, or BM25
    relevance: float  # calibrated to 0…1
    evidence: float  # what the leg proves, for the cut-off: its relevance, more or less
    strength: float  # 0…1: the relevance on a longer scale, on which sure answers differ still
    weight: float  # the leg's share; the shares of the legs asked for sum to one
    part: float  # what it adds to the fusion: weight × strength, or what the fusion rule says
    rank: int  # 1 is the leg's best


class ScoreParts(Reply, frozen=True, kw_only=True):
    """How a hit's score came about: score = relevance × (1 + boost)."""

    legs: tuple[LegScore, ...]
    fusion: float  # the sum of the legs' parts
    coherence: float  # what neighbouring segments added
    relevance: float  # min(1, fusion + coherence)
    evidence: float  # 0…1, what the cut-off looks at: how sure the legs are, whatever their weights
    pix: int  # the video's PIX now
    pix_gain: float  # g, 0…1: log1p(min(pix, cap)) / log1p(cap)
    pix_weight: float  # β
    pix_boost: float  # β·g
    pix_cap: int  # PIX over this adds nothing
    rank: int  # among all segments that matched; 1 is best
    rank_without_pix: int  # the same, were PIX worth nothing


class Span(Reply, frozen=True):
    """A part of a text, in characters: `text[start:end]`."""

    start: int
    end: int


class Moment(Reply, frozen=True, kw_only=True):
    """One segment that matched; with `group` `video`, neighbours that matched as well joined."""

    segment_id: str  # the best one's
    start_s: float
    end_s: float
    score: float
    text: str  # what is said in it, "" where nothing is
    parts: ScoreParts  # of the best segment
    segments: tuple[str, ...] = ()  # all that were joined, in the order of time
    highlights: tuple[Span, ...] = ()  # where `text` has words of the query
    thumbnail: str | None = None  # address of the best segment's picture; None: sound alone


class Hit(Reply, frozen=True, kw_only=True):
    """One video with its best moments, or one segment where `group` is `segment`."""

    video_id: str
    title: str
    creator_id: str
    category: str | None
    score: float
    start_s: float  # of the best moment
    end_s: float
    moments: tuple[Moment, ...]  # best first
    created_at: str = ""  # of the video: RFC 3339, UTC
    duplicates: tuple[str, ...] = ()  # videos whose hits were nearly the same, with `collapse`


class StageTimes(Reply, frozen=True, kw_only=True):
    """Milliseconds that each stage of a search took."""

    total: float
    embed: float = 0.0  # waiting for Triton
    legs: float = 0.0  # waiting for Milvus, beyond the wait for Triton
    catalogue: float = 0.0
    gateway: float = 0.0  # total less the three above


class SearchReply(Reply, frozen=True, kw_only=True):
    """The answer to a search."""

    hits: tuple[Hit, ...]
    model_version: str  # the bundle, e.g. mini-1
    index_version: str = ""  # what a cursor is good for: the bundle, and which export of it
    cutoff: float = 0.0  # the surest hit has at least this evidence, others half of it
    cut: tuple[Hit, ...] = ()  # the best of what was cut off, with `show_cut`
    cut_off: int = 0  # segments that matched, with less evidence than that
    next: str | None = None  # pass it as `cursor` for the next page; None: this is the last one
    mode: Mode = "auto"  # as asked for; `weights` take its place
    intents: dict[Intent, float] = {}  # what the words ask for, 0…1; {}: not auto, or not known
    random_weights: bool = False  # its models were never trained: the answers mean nothing
    degraded: tuple[str, ...]  # what was left out, and why: "speech: triton unavailable"
    stage_ms: StageTimes
    request_id: str


# ---- videos and jobs ----------------------------------------------------------------------------


class VideoMetadata(Strict, frozen=True, kw_only=True):
    """The `metadata` part of an upload."""

    title: Title = ""
    description: Description = ""
    category: Word | None = None
    creator_id: Id = "anonymous"
    pix: Annotated[int, Meta(ge=0, le=MAX_PIX)] = 0
    tags: Tags = ()
    language: Language | None = None


class VideoPatch(Strict, frozen=True, kw_only=True):
    """`PATCH /v1/videos/{id}`: what is given replaces what is there; PIX is not here."""

    title: Title | msgspec.UnsetType = msgspec.UNSET
    description: Description | msgspec.UnsetType = msgspec.UNSET
    category: Word | msgspec.UnsetType | None = msgspec.UNSET
    tags: Tags | msgspec.UnsetType = msgspec.UNSET
    language: Language | msgspec.UnsetType | None = msgspec.UNSET


class Modality(Reply, frozen=True, kw_only=True):
    """How far one modality of a video is: percent, or why there is none."""

    percent: int
    state: Literal["pending", "running", "ready", "absent", "failed"]
    reason: str | None = None  # why there is none, where it is not the file that has none


class Video(Reply, frozen=True, kw_only=True):
    """A video as the API tells it."""

    id: str
    creator_id: str
    title: str
    description: str
    category: str | None
    language: str | None
    tags: tuple[str, ...]
    pix: int
    state: VideoState
    error: str | None
    duration_s: float | None
    width: int | None
    height: int | None
    segments: int
    visual: Modality
    audio: Modality
    transcript: Modality
    model_version: str | None
    created_at: str  # RFC 3339, UTC


class VideoPage(Reply, frozen=True, kw_only=True):
    """One page of videos, newest first."""

    videos: tuple[Video, ...]
    next: str | None  # pass as ?after= for the next page


class Job(Reply, frozen=True, kw_only=True):
    """A piece of work on a video."""

    id: str
    video_id: str
    kind: Literal["ingest", "deepen", "reindex", "hear", "transcribe", "delete"]
    state: JobState
    priority: int = 0  # of the jobs that are due, those with the highest come first
    stage: str  # what it is doing: probe, scenes, embed, index…
    percent: int
    error: str | None
    attempts: int
    created_at: str
    updated_at: str


class Accepted(Reply, frozen=True, kw_only=True):
    """The answer to an upload: 202."""

    video_id: str
    job_id: str
    existing: bool  # the same creator had sent the same content before


class InvestmentRequest(Strict, frozen=True, kw_only=True):
    """`POST /v1/videos/{id}/investments`: adds PIX; the key makes a retry safe."""

    pix: Annotated[int, Meta(ge=1, le=MAX_PIX)]
    key: Id  # the client's own, unique within the video


class Investment(Reply, frozen=True, kw_only=True):
    """One entry of a video's PIX ledger."""

    id: str
    video_id: str
    pix: int
    key: str
    total_pix: int  # the video's PIX with this entry
    repeated: bool  # this key was there already; nothing was added
    job_id: str | None  # the job that looks deeper, if there is more to look at
    created_at: str


# ---- health and errors --------------------------------------------------------------------------


class Health(Reply, frozen=True, kw_only=True):
    """`GET /health/ready`."""

    status: Literal["ready", "degraded", "unavailable"]
    degraded: tuple[str, ...]
    model_version: str | None


class ErrorReply(Reply, frozen=True, kw_only=True):
    """Every error's body."""

    error: str  # the kind: invalid_request, not_found…
    message: str  # what happened and what to do
    request_id: str
    reason: str | None = None  # for media: not_media, truncated, cpu_time…
    part: str | None = None  # for 503: triton, milvus, catalogue
