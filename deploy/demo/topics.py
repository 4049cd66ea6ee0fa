"""What the demo shows, says and asks: `topics.toml` and `queries.toml`, read strictly."""

import tomllib
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from gateway.schemas import VideoMetadata

FOLDER = Path(__file__).parent

Backdrop = Literal[
    "bricks",
    "cells",
    "checker",
    "dots",
    "grain",
    "hexagons",
    "hills",
    "keys",
    "leaves",
    "plasma",
    "rays",
    "rings",
    "sky",
    "spiral",
    "stars",
    "stripes",
    "waves",
    "weave",
]
Motion = Literal["pan", "cycle", "zoom", "still"]
Shape = Literal["disc", "ring", "box", "star", "drop", "flame"]
Flight = Literal["bounce", "drift", "fall", "orbit", "rise", "swing"]
SoundKind = Literal["arpeggio", "bells", "chord", "hum", "noise", "rain", "rhythm", "sweep"]
Colour = Annotated[str, Meta(pattern=r"^#[0-9a-f]{6}$")]
Name = Annotated[str, Meta(pattern=r"^[a-z0-9_]{1,32}$")]


class Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The base of all tables: an unknown or missing key is refused."""


class Actor(Strict, frozen=True, kw_only=True):
    """The moving shapes of a scene."""

    shape: Shape
    path: Flight
    count: Annotated[int, Meta(ge=1, le=40)]
    size_px: Annotated[int, Meta(ge=8, le=200)]
    colour: Colour


class Sound(Strict, frozen=True, kw_only=True):
    """The sound of a scene; `hz` is its pitch, or its tempo in beats a minute for a rhythm."""

    kind: SoundKind
    hz: Annotated[float, Meta(gt=0, le=2_000)]


class Scene(Strict, frozen=True, kw_only=True):
    """One shot, from the end of the one before to `end_s`."""

    end_s: Annotated[float, Meta(gt=0)]
    backdrop: Backdrop
    colours: tuple[Colour, Colour, Colour]  # dark, middle and light of the backdrop
    motion: Motion
    actor: Actor | None = None
    sound: Sound | None = None


class Cue(Strict, frozen=True, kw_only=True):
    """One spoken sentence."""

    start_s: Annotated[float, Meta(ge=0)]
    end_s: Annotated[float, Meta(gt=0)]
    text: Annotated[str, Meta(min_length=1)]


class Topic(Strict, frozen=True, kw_only=True):
    """One demo video: its file, what it shows and says, and what its creator tells about it."""

    name: Name
    file: Annotated[str, Meta(pattern=r"^[a-z0-9_]+\.(mp4|mov|mkv|webm)$")]
    video_codec: Literal["libx264", "libx265", "libvpx-vp9"]
    audio_codec: Literal["aac", "libopus"] | None = None
    transcript: Literal["srt", "vtt", "embedded", "none"]
    metadata: VideoMetadata
    scene: tuple[Scene, ...]
    cue: tuple[Cue, ...] = ()

    @property
    def duration_s(self) -> float:
        """How long the video is."""
        return self.scene[-1].end_s

    @property
    def starts_s(self) -> tuple[float, ...]:
        """When each scene begins."""
        return (0.0, *(scene.end_s for scene in self.scene[:-1]))

    def check(self) -> None:
        """Raise `ValueError` where scenes or cues overlap or leave the video."""
        if any(a >= b for a, b in pairwise((0.0, *(scene.end_s for scene in self.scene)))):
            raise ValueError(f"{self.name}: every scene must end after the one before")
        ends = (0.0, *(cue.end_s for cue in self.cue))
        if any(cue.start_s < end for cue, end in zip(self.cue, ends, strict=False)):
            raise ValueError(f"{self.name}: a cue begins before the one before has ended")
        if any(cue.start_s >= cue.end_s or cue.end_s > self.duration_s for cue in self.cue):
            raise ValueError(f"{self.name}: a cue ends before it begins, or after the video")


class TextQuery(Strict, frozen=True, kw_only=True):
    """Words, and the moment that answers them."""

    text: Annotated[str, Meta(min_length=1)]
    video: Name
    start_s: float
    end_s: float

    def is_answered_by(self, start_s: float, end_s: float) -> bool:
        """Tell whether a segment holds most of the right moment, or most of itself lies in it."""
        overlap_s = min(end_s, self.end_s) - max(start_s, self.start_s)
        return overlap_s > min(end_s - start_s, self.end_s - self.start_s) / 2


class ImageQuery(Strict, frozen=True, kw_only=True):
    """The frame of `video` at `time_s`, given as the query."""

    video: Name
    time_s: float


class PixQuery(Strict, frozen=True, kw_only=True):
    """Words that two videos answer; investing in `raised` lifts it over `leading`."""

    text: str
    leading: Name
    raised: Name
    invest_pix: Annotated[int, Meta(ge=1)]
    key: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,64}$")]


class Queries(Strict, frozen=True, kw_only=True):
    """The example searches."""

    paraphrase: tuple[TextQuery, ...]
    keyword: tuple[TextQuery, ...]
    image: ImageQuery
    pix: PixQuery


class _Topics(Strict, frozen=True, kw_only=True):
    video: tuple[Topic, ...]


@cache
def read_topics() -> tuple[Topic, ...]:
    """Read the demo videos; raises `msgspec.ValidationError` or `ValueError` where one is wrong."""
    text = (FOLDER / "topics.toml").read_text(encoding="utf-8")
    topics = msgspec.convert(tomllib.loads(text), _Topics).video
    for topic in topics:
        topic.check()
    return topics


@cache
def read_queries() -> Queries:
    """Read the example searches; raises `msgspec.ValidationError` naming what is wrong."""
    text = (FOLDER / "queries.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Queries)


def srt(cues: tuple[Cue, ...]) -> str:
    """Return the cues as a SubRip file."""
    blocks = (
        f"{number}\n{_clock(cue.start_s, ',')} --> {_clock(cue.end_s, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues, 1)
    )
    return "\n".join(blocks)


def vtt(cues: tuple[Cue, ...]) -> str:
    """Return the cues as a WebVTT file."""
    blocks = (
        f"{_clock(cue.start_s, '.')} --> {_clock(cue.end_s, '.')}\n{cue.text}\n" for cue in cues
    )
    return "WEBVTT\n\n" + "\n".join(blocks)


def _clock(seconds: float, mark: str) -> str:
    milliseconds = round(seconds * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{mark}{rest % 1000:03}"
