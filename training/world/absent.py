"""Queries about things that are nowhere in the made-up corpus: what a search must not answer. Pure.

The corpus shows shapes, is heard in tones and noises, and speaks of the subjects in `topics.py`;
nothing here is any of these. The things are parted in two, so that a cut-off that is fitted on the
one part can be judged on the other.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

Part = Literal["fit", "judge"]
Manner = Literal["seen", "heard", "said"]

THINGS: Mapping[Manner, tuple[str, ...]] = {
    "seen": (
        "a giraffe eating leaves", "a wedding cake with candles", "a traffic jam at noon",
        "a ballet dancer on a stage", "a plate of sushi", "skyscrapers of a big city",
        "a tennis racket", "a herd of zebras", "an old steam locomotive",
        "a butterfly on a flower", "a man shaving his beard", "a crowded airport terminal",
        "knitting a woollen scarf", "a microscope in a laboratory", "a fire engine",
        "a parachute jump", "penguins waddling", "a barista pouring latte art",
        "a tattooed arm", "a roller coaster", "a camel caravan", "a kitten in a basket",
        "a surgeon in an operating theatre", "a family at the dinner table",
    ),
    "heard": (
        "a lion roaring", "a dog barking", "a vacuum cleaner", "an audience clapping",
        "someone typing on a keyboard", "a rooster crowing", "a baby crying", "a chainsaw",
        "frogs croaking", "bagpipes", "a helicopter landing", "glass shattering",
        "an old man coughing", "popcorn popping", "a horse galloping", "a violin concerto",
        "a motorcycle starting", "people laughing", "a door slamming", "seagulls screaming",
        "a photocopier", "footsteps on gravel", "a cow mooing", "frying bacon",
    ),
    "said": (
        "divorce law", "applying for a visa", "tasting red wine", "training a puppy",
        "batteries of electric cars", "the philosophy of Kant", "dyeing hair", "chess openings",
        "Latin grammar", "job interviews", "wearing make-up", "raising toddlers",
        "tying a necktie", "parliamentary elections", "sewing a dress", "fishing for trout",
        "volcanic eruptions", "diabetes and insulin", "writing a novel", "breeding horses",
        "painting with oil colours", "the Vietnam war", "learning Japanese", "yoga breathing",
    ),
}  # fmt: skip
WORDINGS: Mapping[Manner, tuple[str, ...]] = {
    "seen": ("{}", "a video of {}", "show me {}"),
    "heard": ("{}", "the sound of {}", "find {}"),
    "said": ("someone talking about {}", "someone explaining {}", "{}"),
}


def absent_things(part: Part, seed: int = 0) -> dict[Manner, tuple[str, ...]]:
    """Return the things of one part, by the manner in which a video would have them."""
    parted = {}
    for manner, things in THINGS.items():
        mixed = Random(f"absent {manner} {seed}").sample(things, len(things))  # noqa: S311 - reproducible on purpose
        half = len(mixed) // 2
        parted[manner] = tuple(mixed[:half] if part == "fit" else mixed[half:])
    return parted


def absent_queries(part: Part, seed: int = 0) -> Sequence[str]:
    """Return each thing of one part in every wording."""
    return [
        wording.format(thing)
        for manner, things in absent_things(part, seed).items()
        for thing in things
        for wording in WORDINGS[manner]
    ]
