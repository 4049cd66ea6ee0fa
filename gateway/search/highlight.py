"""Where a text has the words of a query. Pure."""

from collections.abc import Iterator
from functools import lru_cache

from gateway.index.schema import STOP_WORDS
from gateway.schemas import Span
from gateway.search.exclude import WORD, words_of

ENDINGS = ("ings", "edly", "ing", "ers", "ies", "ed", "es", "er", "ly", "s", "y", "e")
DOUBLING = ("ings", "edly", "ing", "ers", "ed", "er")  # before these, "run" becomes "runn"
LEAST_STEM = 3  # letters that an ending leaves
MAX_SPANS = 50  # in one text
CACHED = 32_768  # words
# Words that say nothing, as the keyword leg leaves them out too.
LUCENE_STOP_WORDS = (  # what `_english_` holds
    "a an and are as at be but by for if in into is it no not of on or such that the their then "
    "there these they this to was will with"
)
SILENT = frozenset(f"{STOP_WORDS} {LUCENE_STOP_WORDS}".split())


def highlights(text: str, query: str) -> tuple[Span, ...]:
    """Return where a text has words of a query, as they stand or with another ending.

    Args:
        text: a transcript.
        query: words in any case; those that say nothing, such as `how`, are left out.

    Returns:
        Spans in the order of the text that do not overlap, MAX_SPANS at most.
    """
    wanted = {stem(word) for word in telling(query)}
    spans: list[Span] = []
    for match in WORD.finditer(text) if wanted else ():
        if len(spans) < MAX_SPANS and not wanted.isdisjoint(_stems(match.group())):
            spans.append(Span(match.start(), match.end()))
    return tuple(spans)


def telling(query: str) -> Iterator[str]:
    """Return the words of a query that say something, as the keyword leg searches them."""
    return (word for word in words_of(query) if word not in SILENT)


@lru_cache(maxsize=CACHED)  # transcripts say the same words again and again
def _stems(text: str) -> frozenset[str]:
    return frozenset(stem(word) for word in words_of(text))


def stem(word: str) -> str:
    """Return a word of `words_of` without its usual English ending."""
    for ending in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= LEAST_STEM:
            bare = word.removesuffix(ending)
            doubled = ending in DOUBLING and bare[-1] == bare[-2] and bare[-1] not in "lsz"
            return bare[:-1] if doubled and len(bare) > LEAST_STEM else bare
    return word
