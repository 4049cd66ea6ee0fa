"""What travels over HTTP about thumbnails and jobs, beside `gateway.schemas`."""

from typing import Annotated

from msgspec import Meta

from gateway.schemas import Job, Reply, Strict

MAX_PRIORITY = 100


class Thumbnail(Reply, frozen=True, kw_only=True):
    """One segment of a storyboard."""

    segment_id: str
    start_s: float
    end_s: float
    url: str  # path of its WebP picture on this gateway


class Storyboard(Reply, frozen=True, kw_only=True):
    """The pictures of a video's segments, in order; empty where it has no picture."""

    video_id: str
    width: int  # pixels, of every picture
    height: int
    thumbnails: tuple[Thumbnail, ...]


class Jobs(Reply, frozen=True, kw_only=True):
    """Jobs, newest first."""

    jobs: tuple[Job, ...]


class JobPatch(Strict, frozen=True, kw_only=True):
    """`PATCH /v1/jobs/{id}`."""

    priority: Annotated[int, Meta(ge=-MAX_PRIORITY, le=MAX_PRIORITY)]  # higher comes first
