from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SearchRequest(_message.Message):
    __slots__ = ("query", "like", "own_video", "input_weights", "image", "audio", "mode", "weights", "category", "limit", "group", "filters", "pix_weight", "fusion_rule", "cutoff", "show_cut", "collapse", "diversity", "sort", "cursor", "deadline_ms", "clip")
    QUERY_FIELD_NUMBER: _ClassVar[int]
    NOT_FIELD_NUMBER: _ClassVar[int]
    LIKE_FIELD_NUMBER: _ClassVar[int]
    OWN_VIDEO_FIELD_NUMBER: _ClassVar[int]
    INPUT_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    PIX_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    FUSION_RULE_FIELD_NUMBER: _ClassVar[int]
    CUTOFF_FIELD_NUMBER: _ClassVar[int]
    SHOW_CUT_FIELD_NUMBER: _ClassVar[int]
    COLLAPSE_FIELD_NUMBER: _ClassVar[int]
    DIVERSITY_FIELD_NUMBER: _ClassVar[int]
    SORT_FIELD_NUMBER: _ClassVar[int]
    CURSOR_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    query: str
    like: str
    own_video: bool
    input_weights: InputWeights
    image: bytes
    audio: bytes
    mode: str
    weights: LegWeights
    category: str
    limit: int
    group: str
    filters: Filters
    pix_weight: float
    fusion_rule: str
    cutoff: float
    show_cut: bool
    collapse: bool
    diversity: float
    sort: str
    cursor: str
    deadline_ms: int
    clip: bytes
    def __init__(self, query: _Optional[str] = ..., like: _Optional[str] = ..., own_video: _Optional[bool] = ..., input_weights: _Optional[_Union[InputWeights, _Mapping]] = ..., image: _Optional[bytes] = ..., audio: _Optional[bytes] = ..., mode: _Optional[str] = ..., weights: _Optional[_Union[LegWeights, _Mapping]] = ..., category: _Optional[str] = ..., limit: _Optional[int] = ..., group: _Optional[str] = ..., filters: _Optional[_Union[Filters, _Mapping]] = ..., pix_weight: _Optional[float] = ..., fusion_rule: _Optional[str] = ..., cutoff: _Optional[float] = ..., show_cut: _Optional[bool] = ..., collapse: _Optional[bool] = ..., diversity: _Optional[float] = ..., sort: _Optional[str] = ..., cursor: _Optional[str] = ..., deadline_ms: _Optional[int] = ..., clip: _Optional[bytes] = ..., **kwargs) -> None: ...

class InputWeights(_message.Message):
    __slots__ = ("text", "image", "audio", "like", "clip")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    IMAGE_FIELD_NUMBER: _ClassVar[int]
    AUDIO_FIELD_NUMBER: _ClassVar[int]
    LIKE_FIELD_NUMBER: _ClassVar[int]
    CLIP_FIELD_NUMBER: _ClassVar[int]
    text: float
    image: float
    audio: float
    like: float
    clip: float
    def __init__(self, text: _Optional[float] = ..., image: _Optional[float] = ..., audio: _Optional[float] = ..., like: _Optional[float] = ..., clip: _Optional[float] = ...) -> None: ...

class LegWeights(_message.Message):
    __slots__ = ("visual", "speech", "sound", "fused", "keyword")
    VISUAL_FIELD_NUMBER: _ClassVar[int]
    SPEECH_FIELD_NUMBER: _ClassVar[int]
    SOUND_FIELD_NUMBER: _ClassVar[int]
    FUSED_FIELD_NUMBER: _ClassVar[int]
    KEYWORD_FIELD_NUMBER: _ClassVar[int]
    visual: float
    speech: float
    sound: float
    fused: float
    keyword: float
    def __init__(self, visual: _Optional[float] = ..., speech: _Optional[float] = ..., sound: _Optional[float] = ..., fused: _Optional[float] = ..., keyword: _Optional[float] = ...) -> None: ...

class Filters(_message.Message):
    __slots__ = ("category", "creator_id", "language", "tags", "video_id", "min_pix", "min_duration_s", "max_duration_s", "created_after", "created_before", "level")
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    CREATOR_ID_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_PIX_FIELD_NUMBER: _ClassVar[int]
    MIN_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_S_FIELD_NUMBER: _ClassVar[int]
    CREATED_AFTER_FIELD_NUMBER: _ClassVar[int]
    CREATED_BEFORE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    category: _containers.RepeatedScalarFieldContainer[str]
    creator_id: _containers.RepeatedScalarFieldContainer[str]
    language: _containers.RepeatedScalarFieldContainer[str]
    tags: _containers.RepeatedScalarFieldContainer[str]
    video_id: _containers.RepeatedScalarFieldContainer[str]
    min_pix: int
    min_duration_s: float
    max_duration_s: float
    created_after: str
    created_before: str
    level: str
    def __init__(self, category: _Optional[_Iterable[str]] = ..., creator_id: _Optional[_Iterable[str]] = ..., language: _Optional[_Iterable[str]] = ..., tags: _Optional[_Iterable[str]] = ..., video_id: _Optional[_Iterable[str]] = ..., min_pix: _Optional[int] = ..., min_duration_s: _Optional[float] = ..., max_duration_s: _Optional[float] = ..., created_after: _Optional[str] = ..., created_before: _Optional[str] = ..., level: _Optional[str] = ...) -> None: ...

class SearchReply(_message.Message):
    __slots__ = ("hits", "model_version", "index_version", "cutoff", "cut", "cut_off", "next", "mode", "random_weights", "degraded", "stage_ms", "request_id", "intents")
    class IntentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    HITS_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INDEX_VERSION_FIELD_NUMBER: _ClassVar[int]
    CUTOFF_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    CUT_OFF_FIELD_NUMBER: _ClassVar[int]
    NEXT_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    RANDOM_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    STAGE_MS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    INTENTS_FIELD_NUMBER: _ClassVar[int]
    hits: _containers.RepeatedCompositeFieldContainer[Hit]
    model_version: str
    index_version: str
    cutoff: float
    cut: _containers.RepeatedCompositeFieldContainer[Hit]
    cut_off: int
    next: str
    mode: str
    random_weights: bool
    degraded: _containers.RepeatedScalarFieldContainer[str]
    stage_ms: StageTimes
    request_id: str
    intents: _containers.ScalarMap[str, float]
    def __init__(self, hits: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., model_version: _Optional[str] = ..., index_version: _Optional[str] = ..., cutoff: _Optional[float] = ..., cut: _Optional[_Iterable[_Union[Hit, _Mapping]]] = ..., cut_off: _Optional[int] = ..., next: _Optional[str] = ..., mode: _Optional[str] = ..., random_weights: _Optional[bool] = ..., degraded: _Optional[_Iterable[str]] = ..., stage_ms: _Optional[_Union[StageTimes, _Mapping]] = ..., request_id: _Optional[str] = ..., intents: _Optional[_Mapping[str, float]] = ...) -> None: ...

class Hit(_message.Message):
    __slots__ = ("video_id", "title", "creator_id", "category", "score", "start_s", "end_s", "moments", "created_at", "duplicates")
    VIDEO_ID_FIELD_NUMBER: _ClassVar[int]
    TITLE_FIELD_NUMBER: _ClassVar[int]
    CREATOR_ID_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    MOMENTS_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    video_id: str
    title: str
    creator_id: str
    category: str
    score: float
    start_s: float
    end_s: float
    moments: _containers.RepeatedCompositeFieldContainer[Moment]
    created_at: str
    duplicates: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, video_id: _Optional[str] = ..., title: _Optional[str] = ..., creator_id: _Optional[str] = ..., category: _Optional[str] = ..., score: _Optional[float] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., moments: _Optional[_Iterable[_Union[Moment, _Mapping]]] = ..., created_at: _Optional[str] = ..., duplicates: _Optional[_Iterable[str]] = ...) -> None: ...

class Moment(_message.Message):
    __slots__ = ("segment_id", "start_s", "end_s", "score", "text", "parts", "segments", "highlights", "thumbnail")
    SEGMENT_ID_FIELD_NUMBER: _ClassVar[int]
    START_S_FIELD_NUMBER: _ClassVar[int]
    END_S_FIELD_NUMBER: _ClassVar[int]
    SCORE_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    PARTS_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    HIGHLIGHTS_FIELD_NUMBER: _ClassVar[int]
    THUMBNAIL_FIELD_NUMBER: _ClassVar[int]
    segment_id: str
    start_s: float
    end_s: float
    score: float
    text: str
    parts: ScoreParts
    segments: _containers.RepeatedScalarFieldContainer[str]
    highlights: _containers.RepeatedCompositeFieldContainer[Span]
    thumbnail: str
    def __init__(self, segment_id: _Optional[str] = ..., start_s: _Optional[float] = ..., end_s: _Optional[float] = ..., score: _Optional[float] = ..., text: _Optional[str] = ..., parts: _Optional[_Union[ScoreParts, _Mapping]] = ..., segments: _Optional[_Iterable[str]] = ..., highlights: _Optional[_Iterable[_Union[Span, _Mapping]]] = ..., thumbnail: _Optional[str] = ...) -> None: ...

class Span(_message.Message):
    __slots__ = ("start", "end")
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    start: int
    end: int
    def __init__(self, start: _Optional[int] = ..., end: _Optional[int] = ...) -> None: ...

class ScoreParts(_message.Message):
    __slots__ = ("legs", "fusion", "coherence", "relevance", "evidence", "pix", "pix_gain", "pix_weight", "pix_boost", "pix_cap", "rank", "rank_without_pix")
    LEGS_FIELD_NUMBER: _ClassVar[int]
    FUSION_FIELD_NUMBER: _ClassVar[int]
    COHERENCE_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    PIX_FIELD_NUMBER: _ClassVar[int]
    PIX_GAIN_FIELD_NUMBER: _ClassVar[int]
    PIX_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PIX_BOOST_FIELD_NUMBER: _ClassVar[int]
    PIX_CAP_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    RANK_WITHOUT_PIX_FIELD_NUMBER: _ClassVar[int]
    legs: _containers.RepeatedCompositeFieldContainer[LegScore]
    fusion: float
    coherence: float
    relevance: float
    evidence: float
    pix: int
    pix_gain: float
    pix_weight: float
    pix_boost: float
    pix_cap: int
    rank: int
    rank_without_pix: int
    def __init__(self, legs: _Optional[_Iterable[_Union[LegScore, _Mapping]]] = ..., fusion: _Optional[float] = ..., coherence: _Optional[float] = ..., relevance: _Optional[float] = ..., evidence: _Optional[float] = ..., pix: _Optional[int] = ..., pix_gain: _Optional[float] = ..., pix_weight: _Optional[float] = ..., pix_boost: _Optional[float] = ..., pix_cap: _Optional[int] = ..., rank: _Optional[int] = ..., rank_without_pix: _Optional[int] = ...) -> None: ...

class LegScore(_message.Message):
    __slots__ = ("leg", "raw", "relevance", "weight", "part", "rank", "evidence", "strength")
    LEG_FIELD_NUMBER: _ClassVar[int]
    RAW_FIELD_NUMBER: _ClassVar[int]
    RELEVANCE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    RANK_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    STRENGTH_FIELD_NUMBER: _ClassVar[int]
    leg: str
    raw: float
    relevance: float
    weight: float
    part: float
    rank: int
    evidence: float
    strength: float
    def __init__(self, leg: _Optional[str] = ..., raw: _Optional[float] = ..., relevance: _Optional[float] = ..., weight: _Optional[float] = ..., part: _Optional[float] = ..., rank: _Optional[int] = ..., evidence: _Optional[float] = ..., strength: _Optional[float] = ...) -> None: ...

class StageTimes(_message.Message):
    __slots__ = ("total", "embed", "legs", "catalogue", "gateway")
    TOTAL_FIELD_NUMBER: _ClassVar[int]
    EMBED_FIELD_NUMBER: _ClassVar[int]
    LEGS_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    total: float
    embed: float
    legs: float
    catalogue: float
    gateway: float
    def __init__(self, total: _Optional[float] = ..., embed: _Optional[float] = ..., legs: _Optional[float] = ..., catalogue: _Optional[float] = ..., gateway: _Optional[float] = ...) -> None: ...
