"""Questions of several inputs about a made-up set, each with its right answer. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from training.world.topics import TOPICS
from training.world.words import TOPICS as TOPIC_WORDS

ALIKE = (("object", "shape"), ("colour", "colour"))  # caption and attribute that look-alikes share


@dataclass(frozen=True)
class Segment:
    """A segment of the set as the stack has it."""

    segment_id: str
    video_id: str
    captions: dict[str, str]  # by kind of query
    attributes: dict[str, dict[str, str]]  # of each caption

    @property
    def aspect(self) -> str:
        """What is spoken of, as topic/aspect; "" where nobody speaks."""
        return self.attributes.get("speech", {}).get("aspect", "")

    @property
    def look(self) -> tuple[str | None, ...]:
        """Its shape and colour; None for one that no caption names."""
        return tuple(self.attributes.get(kind, {}).get(name) for kind, name in ALIKE)


@dataclass(frozen=True)
class Pair:
    """A picture of one segment, and words about the sound of another that looks alike."""

    right: Segment  # looks alike, and sounds as the words say
    like: Segment  # whose picture is given
    words: str


@dataclass(frozen=True)
class Turned:
    """A topic, and one aspect of it that is not wanted."""

    topic: str
    aspect: str  # topic/aspect
    topic_words: str
    away: str


def pairs_of(segments: Sequence[Segment]) -> list[Pair]:
    """Return a pair for each segment that is heard and has a look-alike, with the next such one."""
    pairs = []
    for place, right in enumerate(segments):
        others = [*segments[place + 1 :], *segments[:place]]
        like = next((one for one in others if one.look == right.look), None)
        if "sound" in right.captions and None not in right.look and like:
            pairs.append(Pair(right, like, right.captions["sound"]))
    return pairs


def turned_aspects(segments: Sequence[Segment]) -> list[Turned]:
    """Return each aspect that is spoken of, with the words for its topic and for itself."""
    return [
        Turned(topic, f"{topic}/{aspect}", TOPIC_WORDS[topic][0], told.asked[0])
        for topic, aspects in TOPICS.items()
        for aspect, told in aspects.items()
        if any(one.aspect == f"{topic}/{aspect}" for one in segments)
    ]


def about(said: Sequence[str], wanted: str) -> float:
    """Return the share of what is said that is about a topic or an aspect of one."""
    right = sum(1 for one in said if one == wanted or one.startswith(f"{wanted}/"))
    return right / len(said) if said else 0.0
