"""Words that name a look, a sound, or that something is said. Pure."""

import re

from gateway.search.highlight import telling

SPEAKER_WORDS = 1  # that name who speaks: "a doctor talking about sleep"

LOOKS = (
    r"(looks?|looking) like|(pictures?|photos?|images?|shots?|footage) of|scenes? (of|with)"
    r"|close-?up|wide shot|aerial|silhouettes?|skyline|sunset|sunrise|landscape|wearing|dressed in"
    r"|colou?r(s|ed|ful)?|red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|grey"
    r"|gray|golden|silver|striped|dotted|bright|dark|blurry|round|square|triang(le|ular)"
    r"|circles?|in the (background|foreground)|on (the )?screen"
)
SOUNDS = (
    r"sounds? (of|like)|sounding|noises?|nois(y|ily)|hear(s|d|ing)?|audio|music(al)?|melod(y|ies)"
    r"|songs?|sing(s|ing|er)?|hum(s|ming)?|whistl(e|es|ing)|ring(s|ing)|beep(s|ing)?|buzz(es|ing)?"
    r"|bark(s|ing)?|meow(s|ing)?|roar(s|ing)?|chirp(s|ing)?|applause|clapping|laughter|laughing"
    r"|scream(s|ing)?|thunder|engine noise|drum(s|ming)?|guitar solo|piano|violin|beats?|rhythm"
    r"|loud(ly)?|quiet(ly)?|silence|echo(es|ing)?|tones?|pitch"
)
SPEECH = (
    r"sa(y|ys|id|ying)|tell(s|ing)?|told|talk(s|ed|ing)?( about)?|speak(s|ing)?( about)?|spoken"
    r"|explain(s|ed|ing)?|explanation|mention(s|ed|ing)?|discuss(es|ed|ing|ion)?|argu(es|ed|ing)"
    r"|quot(e|es|ed|ing)|interview(s|ed)?|lecture|speech|dialog(ue)?|conversation|advice|asks?"
    r"|answers?|defin(es?|ition)|mean(s|ing) of|how (to|do|does|is|are|can)|why|what (is|are|does)"
    r'|when (is|do|does|should)|"[^"]+"'
)
LOOK_CUES, SOUND_CUES, SPEECH_CUES = (
    re.compile(rf"(?<!\w)(?:{cues})(?!\w)", re.IGNORECASE) for cues in (LOOKS, SOUNDS, SPEECH)
)


def asks_for_speech(text: str) -> bool:
    """Say whether the words ask for something said, and for nothing that is seen or heard.

    They do where they name speech, neither a look nor a sound, and before it at most who speaks:
    "someone explaining knots", but not "a rope on a boat and someone explaining knots".
    """
    first = SPEECH_CUES.search(text)
    if first is None or LOOK_CUES.search(text) or SOUND_CUES.search(text):
        return False
    before = text[: first.start()]
    return len(set(telling(before))) <= SPEAKER_WORDS
