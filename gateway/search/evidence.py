"""How much a leg's matches prove, for the cut-off, beyond how relevant each is by itself. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from gateway.schemas import LegName
from gateway.search.calibrate import Match
from gateway.search.cues import asks_for_speech
from gateway.search.highlight import telling

BEST = 5  # sentences, among which those of one video bear each other out
BORNE_OUT = 1.5  # times as much again, where all of them are of one video
UNHEARD = 0.3  # of what pictures and sounds prove of what somebody says
SPOKEN: frozenset[LegName] = frozenset({"speech", "keyword"})


def weigh_evidence(
    matches: Mapping[LegName, Sequence[Match]], text: str
) -> dict[LegName, tuple[Match, ...]]:
    """Return the matches with what they prove; relevances and strengths stay as they are.

    - Sentences bear each other out: who speaks of something does so for more than five seconds, so
      a sentence proves more where others of the leg's BEST are of the same video. One that stands
      alone proves no less than its relevance.
    - A word proves its share of the words that were asked for.
    - Where the words ask for what is said and for no look or sound, pictures and sounds prove
      UNHEARD of it: "someone explaining divorce law" looks like anyone who explains anything, in
      every leg that looks or listens, so they are not witnesses independent of each other.

    Args:
        matches: of each leg, best first.
        text: the words of the query, "" for none.
    """
    words = len(set(telling(text)))
    unheard = asks_for_speech(text)
    return {leg: _weighed(leg, found, words, unheard) for leg, found in matches.items()}


def _weighed(leg: LegName, found: Sequence[Match], words: int, unheard: bool) -> tuple[Match, ...]:
    if leg == "speech":
        return _borne_out(found)
    if leg == "keyword":
        return _times(found, 1 / max(1, words))
    return _times(found, UNHEARD if unheard else 1.0)


def _borne_out(found: Sequence[Match]) -> tuple[Match, ...]:
    of_video = Counter(match.video_id for match in found[:BEST])
    return tuple(
        replace(match, evidence=min(1.0, match.evidence * _support(of_video[match.video_id])))
        if of_video[match.video_id] > 1
        else match
        for match in found
    )


def _support(sentences: int) -> float:
    return 1 + BORNE_OUT * (sentences - 1) / (BEST - 1)


def _times(found: Sequence[Match], factor: float) -> tuple[Match, ...]:
    if factor == 1:
        return tuple(found)
    return tuple(replace(match, evidence=match.evidence * factor) for match in found)
