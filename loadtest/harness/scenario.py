"""Scenarios: what is asked, how often, for how long, what may break, and what must hold.

Read from files by `scenario_file.py`. Pure.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec
from msgspec import Meta

from gateway.schemas import Group, Mode
from loadtest.harness.schedule import Process

Positive = Annotated[float, Meta(gt=0, le=1e9)]
NotNegative = Annotated[float, Meta(ge=0, le=1e9)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
Percentile = Literal["p50", "p90", "p95", "p99", "p99.9", "max"]

LATENESS_LIMIT_MS = 5.0  # the generator's p99; a run that was later is invalid
LONGEST_S = 24 * 3600.0  # one run
MAX_TARGETS = 16


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all tables: an unknown or missing key is refused."""


# ---- what is asked ------------------------------------------------------------------------------


class Queries(Strict, frozen=True, kw_only=True):
    """Where the texts come from."""

    source: Literal["unique", "zipf", "file"] = "unique"
    file: str = ""  # one text a line, beside the scenario; asked in order, again and again
    vocabulary: Count = 10_000  # zipf: how many different texts there are
    exponent: Positive = 1.1  # zipf: text k is asked in proportion to 1 / k^exponent


class _Target(Strict, frozen=True, kw_only=True, tag_field="kind"):
    """What all targets have."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9_-]{0,32}$")] = ""  # "": its kind
    weight: Positive = 1.0  # of the requests, as a share of all targets' weights
    timeout_s: Positive = 10.0  # from the scheduled start; later is hung

    @property
    def label(self) -> str:
        """What reports and SLOs call it."""
        return self.name or str(self.__struct_config__.tag)


class SearchText(_Target, frozen=True, kw_only=True, tag="search_text"):
    """`GET /v1/search` with words."""

    queries: Queries = Queries()
    limit: Annotated[int, Meta(ge=1, le=100)] = 10
    mode: Mode = "auto"
    group: Group = "video"
    deadline_ms: Count | None = None  # None: the gateway's


class SearchImage(_Target, frozen=True, kw_only=True, tag="search_image"):
    """`POST /v1/search` with a picture, drawn by the harness."""

    images: Count = 16  # different ones
    limit: Annotated[int, Meta(ge=1, le=100)] = 10


class Upload(_Target, frozen=True, kw_only=True, tag="upload"):
    """`POST /v1/videos`, timed until the video can be found; deleted after the run."""

    timeout_s: Positive = 300.0
    folder: str = ""  # of video files; "": the demo's, rendered where they are missing


class EmbedQuery(_Target, frozen=True, kw_only=True, tag="embed_query"):
    """Triton's `embed_query` over gRPC."""

    queries: Queries = Queries()


class EmbedImages(_Target, frozen=True, kw_only=True, tag="embed_images"):
    """Triton's `embed_images` over gRPC."""

    images: Count = 16
    batch: Annotated[int, Meta(ge=1, le=16)] = 1


class EmbedVideo(_Target, frozen=True, kw_only=True, tag="embed_video"):
    """Triton's `embed_video` over gRPC, with chunks of the demo videos or of a folder's."""

    timeout_s: Positive = 60.0
    folder: str = ""


class HttpGet(_Target, frozen=True, kw_only=True, tag="http_get"):
    """`GET` of any path; a status below 400 is an answer."""

    path: Annotated[str, Meta(pattern=r"^/[!-~]{0,1000}$")] = "/"


Target: TypeAlias = (
    SearchText | SearchImage | Upload | EmbedQuery | EmbedImages | EmbedVideo | HttpGet
)
OF_TRITON = EmbedQuery | EmbedImages | EmbedVideo


# ---- how often ----------------------------------------------------------------------------------


class _Load(Strict, frozen=True, kw_only=True, tag_field="shape"):
    """What all loads have."""

    warm_up_s: Annotated[float, Meta(ge=0, le=3600)] = 5.0  # at the first rate; not counted


class _Open(_Load, frozen=True, kw_only=True):
    """Fired on schedule, whatever the answers do."""

    arrivals: Process = "poisson"


class Constant(_Open, frozen=True, kw_only=True, tag="constant"):
    """One rate."""

    rate_per_s: Positive
    duration_s: Positive


class Ramp(_Open, frozen=True, kw_only=True, tag="ramp"):
    """A rate that rises or falls evenly."""

    from_per_s: Positive
    to_per_s: Positive
    duration_s: Positive


class Steps(_Open, frozen=True, kw_only=True, tag="steps"):
    """Several rates, each for the same time."""

    rates_per_s: Annotated[tuple[Positive, ...], Meta(min_length=1, max_length=100)]
    step_s: Positive


class Burst(_Open, frozen=True, kw_only=True, tag="burst"):
    """A base rate, and at the end of each `every_s` seconds a burst."""

    base_per_s: Positive
    burst_per_s: Positive
    every_s: Positive
    burst_s: Positive
    duration_s: Positive


class Replay(_Load, frozen=True, kw_only=True, tag="replay"):
    """The times and texts of a recording: JSON lines like `{"at_s": 0.25, "query": "a text"}`."""

    file: Annotated[str, Meta(min_length=1)]  # beside the scenario
    speed: Positive = 1.0


class Closed(_Load, frozen=True, kw_only=True, tag="closed"):
    """Clients that each wait for their answer before they ask again: for throughput alone."""

    clients: Annotated[int, Meta(ge=1, le=4_096)]
    duration_s: Positive


Load: TypeAlias = Constant | Ramp | Steps | Burst | Replay | Closed


# ---- what must hold, and what breaks ------------------------------------------------------------


class Slo(Strict, frozen=True, kw_only=True):
    """What must hold over the measured part; every field that is set."""

    target: str = ""  # a target's name; "": all together
    latency_ms: dict[Percentile, Positive] = {}  # failed and hung requests count as too slow
    availability: Share | None = None  # answered, whole or degraded, as a share of all
    degraded_share: Share | None = None  # at most, of the answered
    hung: Annotated[int, Meta(ge=0)] | None = None  # at most
    recall: Share | None = None  # at least: what a calm, patient search finds, found under load
    first_answer_s: Positive | None = None  # at most: until the first answer, from the start
    memory_growth: Share | None = None  # at most, of every part, after the first three minutes
    descriptor_growth: Share | None = None  # at most, the same


class Fault(Strict, frozen=True, kw_only=True):
    """Something that breaks, on schedule."""

    kind: Literal["kill", "stop", "slow_network"]
    at_s: NotNegative  # from the measured part's start
    part: Literal["triton", "model", "milvus", "worker", "gateway", "network"]
    model: str = ""  # of part `model`: whose process, e.g. clip_text
    duration_s: NotNegative = 0.0  # of stop and slow_network
    delay_ms: NotNegative = 0.0  # slow_network: each way
    recover_s: Positive | None = None  # at most: until full quality again, from the fault's end
    answered_share: Share | None = None  # at least, from the fault until full quality again
    hung: Annotated[int, Meta(ge=0)] | None = None  # at most


class Scenario(Strict, frozen=True, kw_only=True):
    """One scenario."""

    name: Name
    summary: Annotated[str, Meta(max_length=1_000)] = ""
    load: Load
    target: Annotated[tuple[Target, ...], Meta(min_length=1, max_length=MAX_TARGETS)]
    slo: tuple[Slo, ...]
    fault: tuple[Fault, ...] = ()
    seed: Annotated[int, Meta(ge=0, le=2**53)] | None = None  # None: a new one each run
    processes: Annotated[int, Meta(ge=1, le=64)] = 1  # of the generator
    lateness_limit_ms: Positive = LATENESS_LIMIT_MS
    cold: bool = False  # the local stack is started at second 0; warm-up must be 0


def duration_s(load: Load) -> float:
    """Return the length of the measured part, in seconds; a replay's is its recording's: 0."""
    match load:
        case Steps():
            return len(load.rates_per_s) * load.step_s
        case Replay():
            return 0.0
        case _:
            return load.duration_s
