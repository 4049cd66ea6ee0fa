"""The corpus: segments drawn at random, which combinations are held out, and the evaluation set.

Training never sees a held-out combination (a colour on a shape, a texture before a background, an
event at a tempo); each evaluation segment has at least one. An evaluation caption fits exactly one
segment of its set.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TypeVar

import numpy as np

from training.world import words
from training.world.captions import KINDS, Caption, Kind, naming_order, phrase
from training.world.scenes import (
    ACROSS,
    ATTRIBUTES,
    BACKGROUNDS,
    BEDS,
    CAMERAS,
    COLOURS,
    DOWN,
    EVENTS,
    LIGHTS,
    LOOK,
    PITCHES,
    RELATIONS,
    SHAPES,
    SIZES,
    SOUND,
    SPEAKERS,
    SPEECH,
    SWELLS,
    TEMPOS,
    TEXTURES,
    WEATHERS,
    Codes,
    Companion,
    Figure,
    Look,
    Segment,
    Sound,
    Speech,
    attributes,
    encode,
    fit_matrix,
)
from training.world.topics import TOPICS

_Heard = TypeVar("_Heard", Sound, Speech)

EVALUATION_SEGMENTS = 1000
PATIENCE = 5_000  # draws for a sound or a speech that no other evaluation segment has
SOUNDING, SPEAKING, EMPTY = 0.65, 0.5, 0.02  # of all segments
SIBLINGS = 0.3  # of the evaluation segments differ from an earlier one in one thing only
SPARE_ATTRIBUTES = 2  # that a caption may name though it fits one segment without them

HELD_OUT_COLOURS = frozenset(
    (COLOURS[(3 * place + shift) % len(COLOURS)], shape)
    for place, shape in enumerate(SHAPES)
    for shift in (1, 5)
)
HELD_OUT_TEXTURES = frozenset(
    (TEXTURES[place % len(TEXTURES)], background) for place, background in enumerate(BACKGROUNDS)
)
HELD_OUT_TEMPOS = frozenset(
    (event, TEMPOS[place % len(TEMPOS)]) for place, event in enumerate(EVENTS)
)
FREE_MOTIONS = ("still", "left", "right", "up", "down", "grows", "shrinks")
RELATED_MOTIONS = {
    "left of": ("still", "up", "down", "grows", "shrinks"),
    "right of": ("still", "up", "down", "grows", "shrinks"),
    "above": ("still", "left", "right", "grows", "shrinks"),
    "below": ("still", "left", "right", "grows", "shrinks"),
    "in front of": ("still",),
}
FLAT = ("plain", "gradient")  # backgrounds on which no camera move is seen


@dataclass(frozen=True, slots=True)
class Described:
    """A segment of the evaluation set and the queries that fit it alone, one a kind."""

    segment: Segment
    captions: tuple[Caption, ...]


def training_batch(seed: int, step: int, size: int) -> list[Segment]:
    """Return the segments of one step: the same for the same seed and step, none held out."""
    rng = Random(f"training {seed} {step}")  # noqa: S311 - reproducible on purpose
    return [training_segment(rng) for _ in range(size)]


def training_segment(rng: Random) -> Segment:
    """Draw a segment without any held-out combination."""
    look = next(look for look in _looks(rng) if not held_out_look(look))
    sounds = (sound for sound in _sounds(rng) if not held_out_sound(sound))
    return _segment(look, sounds, _speeches(rng), rng)


def held_out_look(look: Look) -> bool:
    """Tell whether a look has a combination that training never sees."""
    if look.figure is None:
        return False
    pairs = {(look.figure.colour, look.figure.shape)}
    if look.companion is not None:
        pairs.add((look.companion.colour, look.companion.shape))
    texture = (look.figure.texture, look.background)
    return bool(pairs & HELD_OUT_COLOURS) or texture in HELD_OUT_TEXTURES


def held_out_sound(sound: Sound) -> bool:
    """Tell whether a sound has a combination that training never hears."""
    return (sound.event, sound.tempo) in HELD_OUT_TEMPOS


def evaluation_set(seed: int, n: int = EVALUATION_SEGMENTS) -> list[Described]:
    """Draw segments with held-out combinations, and per kind of query a caption of each.

    A segment has no caption of a kind that does not apply to it, or that cannot tell it from all
    others. A third are hard negatives: another segment with one thing changed.

    Args:
        seed: of everything that is random.
        n: how many segments.
    """
    rng = Random(f"evaluation {seed}")  # noqa: S311 - reproducible on purpose
    segments: list[Segment] = []
    sounds, speeches = _different(_held_out_sounds(rng)), _different(_speeches(rng))
    while len(segments) < n:
        sibling = bool(segments) and rng.random() < SIBLINGS
        look = _sibling(rng.choice(segments).look, rng) if sibling else _held_out_look(rng)
        segments.append(_segment(look, sounds, speeches, rng))
    codes = np.stack([encode(attributes(segment)) for segment in segments])
    return [Described(segment, tuple(_captions(segment, codes, rng))) for segment in segments]


def _captions(segment: Segment, codes: Codes, rng: Random) -> Iterator[Caption]:
    for kind in KINDS:
        caption = unique_caption(segment, kind, codes, rng)
        if caption is not None:
            yield caption


def unique_caption(segment: Segment, kind: Kind, codes: Codes, rng: Random) -> Caption | None:
    """Describe a segment by attributes that no other has together; None where there are none.

    Args:
        segment: one of the set.
        kind: of query.
        codes: (n, attributes) of the whole set.
        rng: chooses attributes and words.
    """
    found = attributes(segment)
    names = naming_order(found, kind, rng)
    if names is None:
        return None
    candidates = dict.fromkeys([*names.usual, *names.rare])  # in the order to be tried
    chosen = list(names.required)
    if kind == "mixed" and _fitting(found, [n for n in chosen if n in LOOK], codes) == 1:
        return None  # what is seen is enough, so it would show nothing
    spare = [name for name in candidates if name not in chosen]
    while _fitting(found, chosen, codes) > 1:
        if not spare:
            return None
        chosen.append(spare.pop(0))
    chosen += spare[: rng.randint(0, SPARE_ATTRIBUTES)]
    return phrase(kind, {name: found[name] for name in chosen}, rng)


def _fitting(found: dict[str, str], chosen: Sequence[str], codes: Codes) -> int:
    described = encode({name: found[name] for name in chosen})
    return int(fit_matrix(described[None], codes).sum())


def _segment(
    look: Look, sounds: Iterator[Sound], speeches: Iterator[Speech], rng: Random
) -> Segment:
    sound = next(sounds) if rng.random() < SOUNDING else None
    speech = next(speeches) if rng.random() < SPEAKING else None
    return Segment(look, sound, speech)


def _held_out_look(rng: Random) -> Look:
    return next(look for look in _looks(rng) if look.figure and held_out_look(look))


def _held_out_sounds(rng: Random) -> Iterator[Sound]:
    return (sound for sound in _sounds(rng) if held_out_sound(sound))


def _different(drawn: Iterator[_Heard]) -> Iterator[_Heard]:
    """Pass on what describes itself unlike all before, while PATIENCE draws find such."""
    seen: set[str] = set()
    for found in drawn:
        for _ in range(PATIENCE):
            if _key(found) not in seen:
                break
            found = next(drawn)
        seen.add(_key(found))
        yield found


def _key(heard: Sound | Speech) -> str:
    names = SOUND if isinstance(heard, Sound) else SPEECH
    return " ".join(getattr(heard, name) for name in names)


def _sibling(look: Look, rng: Random) -> Look:
    """Return a look with one thing changed that has a held-out combination too."""
    for _ in range(50):
        changed = _changed(look, rng)
        if changed != look and held_out_look(changed):
            return replace(changed, seed=rng.getrandbits(32))
    return _held_out_look(rng)


def _changed(look: Look, rng: Random) -> Look:
    figure, companion = look.figure, look.companion
    what = rng.choice(("colour", "texture", "relation", "motion", "background_colour"))
    if figure and what in ("colour", "texture"):
        return replace(look, figure=replace(figure, **{what: rng.choice(ATTRIBUTES[what])}))
    if companion and what == "relation" and look.motion == "still":
        return replace(look, companion=replace(companion, relation=rng.choice(RELATIONS)))
    if what == "motion":
        return replace(look, motion=rng.choice(_motions(companion)))
    return replace(look, background_colour=rng.choice(COLOURS))


def _looks(rng: Random) -> Iterator[Look]:
    while True:
        look = _look(rng)
        colours = [look.background_colour]
        colours += [look.figure.colour] if look.figure else []
        colours += [look.companion.colour] if look.companion else []
        if len(set(colours)) == len(colours):  # a red circle before red cannot be seen
            yield look


def _look(rng: Random) -> Look:
    figure = None if rng.random() < EMPTY else _figure(rng)
    companion = None
    if figure and figure.number == "one" and figure.size != "large" and rng.random() < 0.5:
        companion = _companion(rng)
    background = rng.choice(BACKGROUNDS)
    return Look(
        figure=figure,
        companion=companion,
        background=background,
        background_colour=rng.choice(COLOURS),
        weather=rng.choice(("clear", *WEATHERS)),
        light=rng.choice(LIGHTS),
        motion=rng.choice(_motions(companion)) if figure else "still",
        camera=rng.choice(CAMERAS) if background not in FLAT else "static",
        seed=rng.getrandbits(32),
    )


def _motions(companion: Companion | None) -> tuple[str, ...]:
    return RELATED_MOTIONS[companion.relation] if companion else FREE_MOTIONS


def _figure(rng: Random) -> Figure:
    size = rng.choice(SIZES)
    numbers = {"small": ("one", "two", "three"), "medium": ("one", "one", "two")}
    return Figure(
        shape=rng.choice(SHAPES),
        colour=rng.choice(COLOURS),
        size=size,
        number=rng.choice(numbers.get(size, ("one",))),  # as many as there is room for
        texture=rng.choice(TEXTURES),
        across=rng.choice(ACROSS),
        down=rng.choice(DOWN),
    )


def _companion(rng: Random) -> Companion:
    return Companion(rng.choice(SHAPES), rng.choice(COLOURS), rng.choice(RELATIONS))


def _sounds(rng: Random) -> Iterator[Sound]:
    while True:
        yield Sound(
            event=rng.choice(EVENTS),
            pitch=rng.choice(PITCHES),
            tempo=rng.choice(TEMPOS),
            bed=rng.choice(BEDS),
            swell=rng.choice(SWELLS),
            seed=rng.getrandbits(32),
        )


def _speeches(rng: Random) -> Iterator[Speech]:
    while True:
        topic = rng.choice(tuple(TOPICS))
        aspect = rng.choice(tuple(TOPICS[topic]))
        speaker = rng.choice(SPEAKERS)
        said = rng.choice(TOPICS[topic][aspect].said)
        transcript = rng.choice(words.ATTRIBUTIONS).format(speaker, said)
        yield Speech(topic, f"{topic}/{aspect}", speaker, transcript)
