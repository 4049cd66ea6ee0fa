"""Segments into words: wordings of attributes, and which attributes a query names. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, get_args

from training.world import words
from training.world.scenes import LOOK, SOUND, SPEECH, Attributes, Segment, attributes
from training.world.topics import TOPICS

Kind = Literal["object", "colour", "motion", "sound", "speech", "mixed"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MIXED_LOOK = 2  # attributes of the picture that a mixed query names


@dataclass(frozen=True, slots=True)
class Pool:
    """Which attributes a kind of query names."""

    required: tuple[str, ...]
    usual: tuple[str, ...]
    rare: tuple[str, ...] = ()  # only where the usual ones do not suffice


@dataclass(frozen=True, slots=True)
class Caption:
    """A query in words, and what it says."""

    kind: Kind
    text: str
    attributes: Attributes


_PLACES = ("across", "down", "relation", "companion_shape")
_SURROUNDINGS = ("background", "background_colour", "weather", "light")
POOLS: dict[Kind, Pool] = {
    "object": Pool(
        ("shape",),
        ("number", "size", "texture", *_PLACES, "background", "weather", "light"),
        ("colour", "companion_colour", "background_colour"),
    ),
    "colour": Pool(
        ("colour",),
        ("shape", "companion_colour", "background_colour", "texture", "light"),
        ("number", "size", "background", "weather", *_PLACES),
    ),
    "motion": Pool(
        ("motion",),
        ("shape", "colour", "camera", "texture", "number", *_SURROUNDINGS),
        ("size", *_PLACES, "companion_colour"),
    ),
    "sound": Pool(("event",), ("pitch", "tempo", "bed", "swell")),
    "speech": Pool(("aspect",), ("speaker",)),
    "mixed": Pool(
        (), ("event", "pitch", "tempo", "bed", "topic", "aspect", "speaker"), ("swell",)
    ),
}  # fmt: skip
_MIXED_LOOK = ("colour", "background_colour", "background", "number", "texture", "motion")


def captions(segment: Segment, kind: Kind, rng: Random) -> str:
    """Return a wording of some of a segment's attributes; "" where the kind does not apply."""
    caption = describe(segment, kind, rng)
    return caption.text if caption else ""


def describe(segment: Segment, kind: Kind, rng: Random) -> Caption | None:
    """Describe a random part of a segment; None where the kind does not apply."""
    return describe_found(attributes(segment), kind, rng)


def describe_found(found: Attributes, kind: Kind, rng: Random) -> Caption | None:
    """Describe a random part of what is found of a segment, as `describe` does."""
    names = naming_order(found, kind, rng)
    if names is None:
        return None
    least = len(names.required)
    count = rng.randint(least, least + len(names.usual) + len(names.rare) // 2)
    chosen = [*names.required, *names.usual, *names.rare][:count]
    return phrase(kind, {name: found[name] for name in chosen}, rng)


def naming_order(found: Attributes, kind: Kind, rng: Random) -> Pool | None:
    """Return what can be named of a segment, shuffled; None where the kind does not apply."""
    pool = POOLS[kind]
    required = pool.required if kind != "mixed" else _mixed_look(found, rng)
    is_still = kind == "motion" and found.get("motion") == "still" and rng.random() < 0.8
    if not required or not all(name in found for name in required) or is_still:
        return None
    usual = _shuffled([name for name in pool.usual if name in found], rng)
    if kind == "mixed" and not usual:
        return None
    rare = _shuffled([name for name in pool.rare if name in found], rng)
    return Pool((*required, *usual[:1]) if kind == "mixed" else required, usual, rare)


def phrase(kind: Kind, described: Attributes, rng: Random) -> Caption:
    """Put attributes into words."""
    parts = [
        part
        for part in (
            _picture({k: v for k, v in described.items() if k in LOOK}, rng),
            _sound({k: v for k, v in described.items() if k in SOUND}, rng),
            _speech({k: v for k, v in described.items() if k in SPEECH}, rng),
        )
        if part
    ]
    if len(parts) > 1 and rng.random() < 0.3:
        rng.shuffle(parts)
    joined = rng.choice((" and ", ", ", " with ")).join(parts)
    return Caption(kind, rng.choice(words.OPENINGS) + joined, dict(described))


def _mixed_look(found: Attributes, rng: Random) -> tuple[str, ...]:
    if "shape" not in found:
        return ()
    return ("shape", *_shuffled(_MIXED_LOOK, rng)[: rng.randint(1, MIXED_LOOK)])


def _picture(described: Attributes, rng: Random) -> str:
    if not described:
        return ""
    clauses = [
        _relation(described, rng),
        _place(described),
        _word(words.MOTIONS, described.get("motion"), rng),
        _background(described, rng),
        _word(words.WEATHERS, described.get("weather"), rng),
        _word(words.LIGHTS, described.get("light"), rng),
        _word(words.CAMERAS, described.get("camera"), rng),
    ]
    if rng.random() < 0.25:
        tail = clauses[2:]
        rng.shuffle(tail)
        clauses[2:] = tail
    return " ".join(filter(None, [_figure(described, rng), *clauses]))


def _figure(described: Attributes, rng: Random) -> str:
    number = described.get("number")
    if number == "none":
        return rng.choice(("nothing", "an empty scene", "no object"))
    adjectives = [
        _word(words.SIZES, described.get("size"), rng),
        _word(words.TEXTURES, described.get("texture"), rng),
        _word(words.COLOURS, described.get("colour"), rng),
    ]
    shape = described.get("shape")
    noun = rng.choice(words.SHAPES[shape] if shape else words.ANY_SHAPE)
    if number in ("two", "three"):
        noun = plural(noun)
    if number:
        return " ".join(filter(None, [rng.choice(words.NUMBERS[number]), *adjectives, noun]))
    return with_article(" ".join(filter(None, [*adjectives, noun])))


def _relation(described: Attributes, rng: Random) -> str:
    shape, colour = described.get("companion_shape"), described.get("companion_colour")
    relation = described.get("relation")
    if not (shape or colour or relation):
        return ""
    noun = rng.choice(words.SHAPES[shape] if shape else words.ANY_SHAPE)
    other = " ".join(filter(None, [_word(words.COLOURS, colour, rng), noun]))
    between = _word(words.RELATIONS, relation, rng) or rng.choice(("next to", "beside", "and"))
    return f"{between} {with_article(other)}"


def _place(described: Attributes) -> str:
    across, down = described.get("across"), described.get("down")
    if across and down:
        return f"at the {words.DOWN[down]} {words.ACROSS[across]}"
    if across:
        return f"in the {words.ACROSS[across]}"
    return f"at the {words.DOWN[down]}" if down else ""


def _background(described: Attributes, rng: Random) -> str:
    kind, colour = described.get("background"), described.get("background_colour")
    if not (kind or colour):
        return ""
    frame = rng.choice(words.BACKGROUNDS[kind] if kind else words.ANY_BACKGROUND)
    noun = " ".join(frame.format(_word(words.COLOURS, colour, rng)).split())
    return f"{rng.choice(('on', 'over', 'against', 'before'))} {with_article(noun)}"


def _sound(described: Attributes, rng: Random) -> str:
    if not described:
        return ""
    event = described.get("event")
    noun = rng.choice(words.EVENTS[event] if event else words.ANY_EVENT)
    adjectives = [
        _word(words.TEMPOS, described.get("tempo"), rng),
        _word(words.PITCHES, described.get("pitch"), rng),
    ]
    if rng.random() < 0.3:
        adjectives.reverse()
    clauses = [
        _word(words.SWELLS, described.get("swell"), rng),
        _word(words.BEDS, described.get("bed"), rng),
    ]
    name = with_article(" ".join(filter(None, [*adjectives, noun])))
    return " ".join(filter(None, [rng.choice(("", "", "the sound of")), name, *clauses]))


def _speech(described: Attributes, rng: Random) -> str:
    if not described:
        return ""
    speaker = described.get("speaker")
    who = with_article(rng.choice(words.SPEAKERS[speaker])) if speaker else "someone"
    verb = rng.choice(("talking about", "explaining", "speaking about", "telling about"))
    if "aspect" in described:
        topic, _, aspect = described["aspect"].partition("/")
        return f"{who} {verb} {rng.choice(TOPICS[topic][aspect].asked)}"
    if "topic" in described:
        return f"{who} {verb} {rng.choice(words.TOPICS[described['topic']])}"
    return f"{who} {rng.choice(('talking', 'speaking'))}"


def _word(table: Mapping[str, Sequence[str]], value: str | None, rng: Random) -> str:
    return rng.choice(table[value]) if value else ""


def with_article(noun: str) -> str:
    """Put "a" or "an" before a noun phrase."""
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def plural(noun: str) -> str:
    """Return the plural of one of the shapes."""
    return noun + ("es" if noun.endswith(("s", "x", "sh")) else "s")


def _shuffled(names: Sequence[str], rng: Random) -> tuple[str, ...]:
    return tuple(rng.sample(names, len(names)))
