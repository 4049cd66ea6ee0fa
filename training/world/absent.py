"""Queries about things that are nowhere in the made-up corpus: what a search must not answer. Pure.

The corpus shows shapes, is heard in tones and noises, and speaks of the subjects in `topics.py`;
nothing here is any of these. They come in parts: a cut-off is fitted on the things of one and
judged on those of another. Who has looked at what a part's queries find can no more judge by it.
"""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Literal

Part = Literal["fit", "judge", "confirm", "reserve"]
Manner = Literal["seen", "heard", "said"]

Things = Mapping[Manner, tuple[str, ...]]

THINGS: Things = {  # of the parts to fit on and to judge by: a half each
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
CONFIRM: Things = {  # written without a look at what any part's queries find
    "seen": (
        "an elephant bathing in a river", "a chef flipping pancakes",
        "a bride throwing her bouquet", "a cable car over a valley", "rows of parked lorries",
        "a toddler on a swing", "a peacock spreading its feathers", "a bookshelf in a library",
        "graffiti on a train", "a gymnast on the balance beam", "a bowl of noodle soup",
        "a chandelier in a ballroom", "a goat on a rooftop", "a crane lifting a container",
        "an owl with big eyes", "a potter shaping a vase", "a suspension bridge",
        "a tent at a campsite", "a hamster in its wheel", "a jar of pickles",
        "a catwalk fashion show", "a portrait in a museum", "a bumper car ride", "a motorcade",
    ),
    "heard": (
        "a cat meowing", "a train passing by", "a kettle boiling", "an aeroplane taking off",
        "a sheep bleating", "a lawnmower", "a hammer on an anvil", "a woman sobbing", "a flute",
        "an elephant trumpeting", "a zip being closed", "a cash register", "wolves howling",
        "a gunshot", "an accordion", "a creaking staircase", "a blender", "crows cawing",
        "somebody sneezing", "a camera shutter", "paper being torn", "an electric drill",
        "a man snoring", "keys jingling",
    ),
    "said": (
        "adopting a child", "brewing beer", "the rules of poker", "caring for parrots",
        "learning to drive", "human rights", "knee surgery", "sign language",
        "restoring old furniture", "making cheese", "the French Revolution",
        "ice hockey tactics", "nuclear power", "planning a wedding", "mountain climbing",
        "poetry", "Buddhist meditation", "applying to universities", "crossword puzzles",
        "insect bites", "plate tectonics", "fashion trends", "copyright law", "cooking curry",
    ),
}  # fmt: skip
RESERVE: Things = {  # judged by once, after the last change of the rules
    "seen": (
        "a koala in a tree", "a barbecue on a terrace", "a lift in an office building",
        "a judge in a courtroom", "an escalator in a shopping centre", "a pile of laundry",
        "a windmill among tulips", "a swimmer diving in", "a hot-air balloon",
        "a squirrel with a nut", "a tram at its stop", "a bunch of grapes",
        "a magician with a rabbit", "a fishmonger's stall", "a conveyor belt of suitcases",
        "a nurse with a stretcher", "a cactus in the desert", "a puppet theatre",
        "a beehive being opened", "a glass of milk", "a mechanic under a car", "a deck chair",
        "a pair of boots", "a violinist in the street",
    ),
    "heard": (
        "a donkey braying", "a tennis rally", "a coffee machine", "an owl hooting",
        "a hairdryer", "ice cubes in a glass", "a baby giggling", "a saxophone",
        "a washing machine", "geese honking", "dominoes falling", "a sewing machine",
        "a campfire crackling", "a bus braking", "a chicken clucking", "a banjo",
        "somebody whispering", "a skateboard", "a stapler", "a tin being opened",
        "a man yawning", "a shopping trolley", "a whip cracking", "champagne being uncorked",
    ),
    "said": (
        "the gold rush", "hiring a lawyer", "making sushi rolls", "electing a mayor",
        "keeping bees", "photographing birds", "autism", "the Stone Age", "learning Spanish",
        "quantum mechanics", "mending clothes", "playing backgammon", "boxing matches",
        "housework", "giving birth", "being a vegetarian", "travelling in India",
        "earthquakes", "lost luggage", "shyness", "building a shed", "roasting coffee",
        "gambling", "leather shoes",
    ),
}  # fmt: skip
WORDINGS: Mapping[Manner, tuple[str, ...]] = {
    "seen": ("{}", "a video of {}", "show me {}"),
    "heard": ("{}", "the sound of {}", "find {}"),
    "said": ("someone talking about {}", "someone explaining {}", "{}"),
}


def absent_things(part: Part) -> Things:
    """Return the things of one part, by the manner in which a video would have them."""
    if part == "confirm":
        return CONFIRM
    if part == "reserve":
        return RESERVE
    parted: dict[Manner, tuple[str, ...]] = {}
    for manner, things in THINGS.items():
        mixed = Random(f"absent {manner} 0").sample(things, len(things))  # noqa: S311 - reproducible on purpose
        half = len(mixed) // 2
        parted[manner] = tuple(mixed[:half] if part == "fit" else mixed[half:])
    return parted


def absent_queries(part: Part) -> Sequence[str]:
    """Return each thing of one part in every wording."""
    return [
        wording.format(thing)
        for manner, things in absent_things(part).items()
        for thing in things
        for wording in WORDINGS[manner]
    ]
