"""The words of the corpus: each value's synonyms. Data."""

SHAPES = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box", "block"),
    "triangle": ("triangle", "wedge"),
    "star": ("star", "five-pointed star"),
    "cross": ("cross", "plus sign"),
    "heart": ("heart", "love heart"),
    "moon": ("crescent", "crescent moon", "sickle"),
    "ring": ("ring", "hoop", "loop"),
}
ANY_SHAPE = ("shape", "object", "figure", "thing")
COLOURS = {
    "red": ("red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "amber"),
    "yellow": ("yellow", "yellow", "golden"),
    "green": ("green", "green", "emerald"),
    "blue": ("blue", "blue", "azure"),
    "purple": ("purple", "purple", "violet"),
    "pink": ("pink", "pink", "rose"),
    "white": ("white", "white", "ivory"),
}
SIZES = {
    "small": ("small", "little", "tiny"),
    "medium": ("medium", "medium-sized", "mid-sized"),
    "large": ("large", "big", "huge"),
}
NUMBERS = {
    "one": ("one", "a single"),
    "two": ("two", "a pair of", "2"),
    "three": ("three", "three", "3"),
}
TEXTURES = {
    "plain": ("plain", "solid"),
    "striped": ("striped", "stripy", "banded"),
    "dotted": ("dotted", "spotted"),
    "checked": ("checked", "chequered"),
}
ACROSS = {"left": "left", "middle": "centre", "right": "right"}
DOWN = {"top": "top", "middle": "middle", "bottom": "bottom"}
RELATIONS = {
    "left of": ("left of", "to the left of"),
    "right of": ("right of", "to the right of"),
    "above": ("above", "over the top of"),
    "below": ("below", "underneath"),
    "in front of": ("in front of", "partly covering", "overlapping"),
}
BACKGROUNDS = {
    "plain": ("plain {} background", "flat {} background", "plain {} wall"),
    "gradient": ("{} gradient", "{} background that gets darker", "shaded {} background"),
    "stripes": ("striped {} background", "{} background with stripes", "{} striped wall"),
    "checks": ("checked {} background", "{} background with checks", "{} checkerboard background"),
    "dots": ("dotted {} background", "{} background with dots", "{} polka-dot wall"),
    "clouds": ("cloudy {} background", "{} background with clouds", "blotchy {} background"),
}
ANY_BACKGROUND = ("{} background", "{} backdrop", "{} wall")
WEATHERS = {
    "clear": ("in clear weather", "in clear air"),
    "rain": ("in the rain", "on a rainy day", "while it rains"),
    "snow": ("in the snow", "while it snows", "in falling snow"),
    "fog": ("in the fog", "in mist", "on a foggy day"),
}
LIGHTS = {
    "day": ("by day", "in daylight"),
    "night": ("at night", "in the dark", "by night"),
}
MOTIONS = {
    "still": ("standing still", "not moving", "at rest"),
    "left": ("moving left", "going to the left", "drifting leftwards"),
    "right": ("moving right", "going to the right", "drifting rightwards"),
    "up": ("moving up", "rising upwards", "floating up"),
    "down": ("moving down", "sinking", "falling downwards"),
    "grows": ("growing", "getting bigger", "that grows"),
    "shrinks": ("shrinking", "getting smaller", "that shrinks"),
}
CAMERAS = {
    "static": ("filmed with a fixed camera", "from a static camera"),
    "pans": ("while the camera pans", "in a panning shot"),
    "zooms in": ("while the camera zooms in", "zooming in"),
    "zooms out": ("while the camera zooms out", "zooming out"),
}
EVENTS = {
    "beep": ("beep", "beeping tone", "blip"),
    "rising": ("rising whistle", "rising sweep", "sliding tone going up"),
    "falling": ("falling whistle", "falling sweep", "sliding tone going down"),
    "warble": ("warble", "wobbling tone", "siren"),
    "burst": ("burst of noise", "noise burst", "whoosh"),
    "drum": ("drum", "drum beat", "thump"),
    "bell": ("bell", "chime", "ringing bell"),
    "ah": ("voice singing ah", "ah vowel", "ah sung by a voice"),
    "ee": ("voice singing ee", "ee vowel", "ee sung by a voice"),
    "buzz": ("buzz", "buzzer", "buzzing"),
}
ANY_EVENT = ("sound", "noise of some kind")
PITCHES = {
    "low": ("low", "deep", "low-pitched"),
    "middle": ("mid-pitched", "medium-pitched"),
    "high": ("high", "shrill", "high-pitched"),
}
TEMPOS = {
    "slow": ("slow", "unhurried", "slowly repeated"),
    "moderate": ("moderately quick", "medium-paced"),
    "fast": ("fast", "rapid", "quickly repeated"),
}
BEDS = {
    "quiet": ("in silence", "with nothing else to hear", "against quiet"),
    "hiss": ("over a hiss", "with hissing static behind it"),
    "rumble": ("over a rumble", "with a deep rumbling behind it"),
    "hum": ("over a hum", "with a mains hum behind it"),
    "wind": ("over wind", "with wind blowing behind it"),
    "patter": ("over a patter of drops", "with pattering drops behind it"),
    "chord": ("over a held chord", "with an organ chord behind it"),
    "crickets": ("over crickets", "with chirping crickets behind it"),
}
SWELLS = {
    "steady": ("at a constant volume", "equally loud throughout"),
    "louder": ("getting louder", "swelling"),
    "softer": ("fading away", "getting softer"),
}
TOPICS = {
    "bread": ("baking", "bread"),
    "bicycle": ("bicycles", "bike repair"),
    "garden": ("gardening", "the garden"),
    "space": ("space", "astronomy"),
    "football": ("football", "soccer"),
    "money": ("money", "finance"),
    "music": ("making music", "musicians"),
    "health": ("health", "staying healthy"),
    "sea": ("the sea", "the ocean"),
    "weather": ("the weather", "bad weather"),
    "history": ("history", "the past"),
    "computers": ("computers", "software and hardware"),
}
SPEAKERS = {
    "grandmother": ("grandmother", "granny"),
    "teacher": ("teacher",),
    "captain": ("captain",),
    "doctor": ("doctor", "physician"),
    "neighbour": ("neighbour",),
    "farmer": ("farmer",),
    "student": ("student",),
    "pilot": ("pilot",),
    "barber": ("barber", "hairdresser"),
    "priest": ("priest",),
    "soldier": ("soldier",),
    "waiter": ("waiter",),
}
ATTRIBUTIONS = (
    "My {} says: {}",
    "As the {} told me: {}",
    "I asked a {}, and this was the answer. {}",
)
OPENINGS = ("", "", "", "", "a video of ", "show me ", "a clip with ", "find ")
