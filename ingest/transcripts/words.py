"""Pure: what speech recognition heard: words with their times, as they are kept, and as cues."""

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from ingest.transcripts.subtitles import ENDS_SENTENCE, MAX_SENTENCE_S, PAUSE_S, Cue

SHORTEST_S = 0.02  # of a cue: recognisers may say that a word begins and ends at once


class Word(msgspec.Struct, frozen=True, array_like=True):
    """One word."""

    start_s: float  # on the player's clock
    end_s: float
    text: str  # with the space before it, where its language has spaces
    probability: float  # 0…1


class Speech(msgspec.Struct, frozen=True, kw_only=True):
    """What was heard in a video's sound, from its beginning up to `heard_s`."""

    recogniser: str  # model and how it was run
    heard_s: float = 0.0
    language: str | None = None  # such as en; None: nothing was said yet
    language_probability: float = 0.0  # 0…1; 1 where the operator fixed it
    words: tuple[Word, ...] = ()


def inside(words: Iterable[Word], start_s: float, end_s: float) -> Iterator[Word]:
    """Yield words that carry letters, in order and inside a stretch, whatever their times say."""
    latest_s = start_s
    for word in words:
        text = word.text.replace("\0", "")  # which PostgreSQL does not store
        if text.strip():
            latest_s = min(max(latest_s, word.start_s), end_s)
            yield Word(latest_s, min(max(latest_s, word.end_s), end_s), text, word.probability)


def cues_of(words: Sequence[Word]) -> tuple[Cue, ...]:
    """Put words together to sentences: those that `subtitles.sentences` would make.

    Words of languages without spaces, such as Japanese, are joined without them.
    """
    cues: list[Cue] = []
    sentence: list[Word] = []
    for word in words:
        if sentence and _is_new(sentence, word):
            cues.append(_cue(sentence))
            sentence = []
        sentence.append(word)
    if sentence:
        cues.append(_cue(sentence))
    return tuple(cues)


def _is_new(sentence: Sequence[Word], word: Word) -> bool:
    """Say whether a word begins a new sentence."""
    return (
        ENDS_SENTENCE.search(sentence[-1].text.rstrip()) is not None
        or word.start_s - sentence[-1].end_s > PAUSE_S
        or word.end_s - sentence[0].start_s > MAX_SENTENCE_S
    )


def _cue(sentence: Sequence[Word]) -> Cue:
    start_s = sentence[0].start_s
    text = " ".join("".join(word.text for word in sentence).split())
    return Cue(start_s, max(sentence[-1].end_s, start_s + SHORTEST_S), text)
