"""Which legs a query has, and what each of them searches with. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

from ensembles.bundle import Capabilities
from gateway.errors import InvalidRequest
from gateway.index.rows import VECTOR_LEGS
from gateway.schemas import InputWeights, LegName, LegWeights
from gateway.search.query import Query

# What a vector is made of: a text by one of three encoders ("clip" is CLIP's), an image, a sound, a
# video that came as the query's clip, a stored segment.
Source = Literal["sentence", "clip", "sound_text", "image", "sound", "video", "like"]
INPUT_OF: Mapping[Source, str] = {  # the field of `InputWeights` that weighs it
    "sentence": "text",
    "clip": "text",
    "sound_text": "text",
    "image": "image",
    "sound": "audio",
    "video": "clip",
    "like": "like",
}


@dataclass(frozen=True)
class Aim:
    """What a leg searches with."""

    sources: tuple[Source, ...]  # their vectors are summed; none: BM25, by the words themselves
    away: Source | None = None  # by what `not` is embedded; its direction is taken away


BY_WORDS = Aim(())
Plan: TypeAlias = Mapping[LegName, Aim]


def plan_legs(
    query: Query,
    capabilities: Capabilities,
    weights: LegWeights | None = None,
    *,
    sound_text: bool = False,
) -> Plan:
    """Return the legs that can answer a query, each with what it searches with.

    Args:
        query: what is asked for.
        capabilities: what the bundle's embeddings can be compared with.
        weights: explicit weights; a leg without weight is left out.
        sound_text: words that are to find sounds have an encoder of their own; else CLIP's.

    Raises:
        InvalidRequest: no leg with a weight can answer the query, or none can take `not` away.
    """
    words = _encoders(capabilities, sound_text)
    legs: dict[LegName, Aim] = {"keyword": BY_WORDS} if query.text else {}
    for leg in VECTOR_LEGS:
        if leg == "fused" and not capabilities.fusion_trained:
            continue
        sources = tuple(_weighed(_sources(leg, query, words), query.input_weights))
        if sources:
            legs[leg] = Aim(sources, words.get(leg) if query.away else None)
    wanted = {leg: aim for leg, aim in legs.items() if weights is None or getattr(weights, leg) > 0}
    if not wanted:
        raise InvalidRequest(
            f"the weights leave no leg that can answer: this query has the legs {', '.join(legs)}"
            if legs
            else "the weights of the inputs leave nothing to search with: raise one"
        )
    if query.away and not any(aim.away for aim in wanted.values()):
        raise InvalidRequest(
            f"not: words cannot be compared with what the legs {', '.join(wanted)} hold, so they "
            "cannot be taken away there: exclude words with -word"
        )
    return wanted


def _encoders(capabilities: Capabilities, sound_text: bool) -> dict[LegName, Source]:
    """Return the legs that words can search, each with the encoder that makes their vector."""
    encoders: dict[LegName, Source] = {"speech": "sentence"}
    if capabilities.words_to_pixels:
        encoders |= {"visual": "clip", "fused": "clip"}
    if capabilities.words_to_sounds:
        encoders["sound"] = "sound_text" if sound_text else "clip"
    return encoders


def _sources(leg: LegName, query: Query, words: Mapping[LegName, Source]) -> Iterator[Source]:
    if query.text and leg in words:
        yield words[leg]
    if query.image and leg in ("visual", "fused"):
        yield "image"
    if query.audio and leg == "sound":
        yield "sound"
    if query.clip and leg in ("visual", "sound", "fused"):
        yield "video"
    if query.like:
        yield "like"


def _weighed(sources: Iterator[Source], weights: InputWeights) -> Iterator[Source]:
    return (source for source in sources if getattr(weights, INPUT_OF[source]) > 0)
