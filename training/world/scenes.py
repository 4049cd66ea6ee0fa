"""The made-up world in words: what a segment of the corpus shows, sounds and says. Pure.

A segment is described by attributes, each with one of a few values. What cannot be perceived is no
attribute: the size of what grows, the place of what moves.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.world.topics import TOPICS

SEGMENT_S = 5.0  # of a segment, and of one motion from its start to its end

SHAPES = ("circle", "square", "triangle", "star", "cross", "heart", "moon", "ring")
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
SIZES = ("small", "medium", "large")
NUMBERS = ("none", "one", "two", "three")
TEXTURES = ("plain", "striped", "dotted", "checked")
ACROSS = ("left", "middle", "right")
DOWN = ("top", "middle", "bottom")
RELATIONS = ("left of", "right of", "above", "below", "in front of")
BACKGROUNDS = ("plain", "gradient", "stripes", "checks", "dots", "clouds")
WEATHERS = ("clear", "rain", "snow", "fog")
LIGHTS = ("day", "night")
MOTIONS = ("still", "left", "right", "up", "down", "grows", "shrinks")
CAMERAS = ("static", "pans", "zooms in", "zooms out")

EVENTS = (
    "beep", "rising", "falling", "warble", "burst", "drum", "bell", "ah", "ee", "buzz",
)  # fmt: skip
PITCHES = ("low", "middle", "high")
TEMPOS = ("slow", "moderate", "fast")
BEDS = ("quiet", "hiss", "rumble", "hum", "wind", "patter", "chord", "crickets")
SWELLS = ("steady", "louder", "softer")

SPEAKERS = (
    "grandmother", "teacher", "captain", "doctor", "neighbour", "farmer", "student", "pilot",
    "barber", "priest", "soldier", "waiter",
)  # fmt: skip
ASPECTS = tuple(f"{topic}/{aspect}" for topic, aspects in TOPICS.items() for aspect in aspects)

LOOK = {
    "shape": SHAPES,
    "colour": COLOURS,
    "size": SIZES,
    "number": NUMBERS,
    "texture": TEXTURES,
    "across": ACROSS,
    "down": DOWN,
    "companion_shape": SHAPES,
    "companion_colour": COLOURS,
    "relation": RELATIONS,
    "background": BACKGROUNDS,
    "background_colour": COLOURS,
    "weather": WEATHERS,
    "light": LIGHTS,
    "motion": MOTIONS,
    "camera": CAMERAS,
}
SOUND = {"event": EVENTS, "pitch": PITCHES, "tempo": TEMPOS, "bed": BEDS, "swell": SWELLS}
SPEECH = {"topic": tuple(TOPICS), "aspect": ASPECTS, "speaker": SPEAKERS}
ATTRIBUTES: dict[str, tuple[str, ...]] = LOOK | SOUND | SPEECH

Attributes = Mapping[str, str]  # some of ATTRIBUTES, each with one of its values
Codes = NDArray[np.int16]  # indices of values, -1 where an attribute is not there
ABSENT = -1


@dataclass(frozen=True, slots=True)
class Figure:
    """What a picture is about: one to three equal shapes."""

    shape: str
    colour: str
    size: str
    number: str
    texture: str
    across: str
    down: str


@dataclass(frozen=True, slots=True)
class Companion:
    """A second, plain shape; `relation` is where the figure is, seen from here."""

    shape: str
    colour: str
    relation: str


@dataclass(frozen=True, slots=True)
class Look:
    """What is seen; `seed` fixes the rest: exact places, shades and phases."""

    figure: Figure | None
    companion: Companion | None
    background: str
    background_colour: str
    weather: str
    light: str
    motion: str
    camera: str
    seed: int


@dataclass(frozen=True, slots=True)
class Sound:
    """What is heard: an event that recurs, over a bed; `seed` fixes frequencies and noise."""

    event: str
    pitch: str
    tempo: str
    bed: str
    swell: str
    seed: int


@dataclass(frozen=True, slots=True)
class Speech:
    """What is said."""

    topic: str
    aspect: str  # `topic/aspect`
    speaker: str
    transcript: str


@dataclass(frozen=True, slots=True)
class Segment:
    """A few seconds of a video."""

    look: Look
    sound: Sound | None
    speech: Speech | None
    duration_s: float = SEGMENT_S


def attributes(segment: Segment) -> dict[str, str]:
    """Return all that can be perceived of a segment, by the names in ATTRIBUTES."""
    found = _look(segment.look)
    if segment.sound is not None:
        found |= {name: getattr(segment.sound, name) for name in SOUND}
    if segment.speech is not None:
        found |= {name: getattr(segment.speech, name) for name in SPEECH}
    return found


def fits(described: Attributes, segment: Segment) -> bool:
    """Tell whether all that is described is so in the segment."""
    return described.items() <= attributes(segment).items()


def encode(described: Attributes) -> Codes:
    """Return the values as indices: (len(ATTRIBUTES),), ABSENT where one is not described."""
    return np.array(
        [
            values.index(described[name]) if name in described else ABSENT
            for name, values in ATTRIBUTES.items()
        ],
        dtype=np.int16,
    )


def fit_matrix(described: Codes, segments: Codes) -> NDArray[np.bool_]:
    """Tell which descriptions fit which segments.

    Args:
        described: (n, len(ATTRIBUTES)).
        segments: (m, len(ATTRIBUTES)).

    Returns:
        (n, m).
    """
    result = np.ones((len(described), len(segments)), dtype=np.bool_)
    for mentioned, found in zip(described.T, segments.T, strict=True):
        result &= (mentioned[:, None] == ABSENT) | (mentioned[:, None] == found[None])
    return result


def _look(look: Look) -> dict[str, str]:
    names = ("background", "background_colour", "weather", "light", "camera")
    found = {name: getattr(look, name) for name in names}
    if look.figure is None:
        return found | {"number": "none"}
    found |= {name: getattr(look.figure, name) for name in ("shape", "colour", "number", "texture")}
    found["motion"] = look.motion
    if look.motion not in ("grows", "shrinks"):
        found["size"] = look.figure.size
    if look.companion is not None:
        found["companion_shape"] = look.companion.shape
        found["companion_colour"] = look.companion.colour
        found["relation"] = look.companion.relation
    elif look.motion == "still" and look.figure.number == "one":
        found |= {"across": look.figure.across, "down": look.figure.down}
    return found
