"""Words that a result must not have: `-word` and `-"some words"` in a query. Pure."""

import re
import unicodedata
from collections.abc import Iterable

from gateway.errors import InvalidRequest

MAX_EXCLUSIONS = 16  # of one query

# A minus that begins a word, and no letter or digit before it: "how-to" and "-5" exclude nothing.
EXCLUSION = re.compile(r'(?<!\S)-(?:"(?P<phrase>[^"]*)"|(?P<word>[^\W\d_]\S*))')
WORD = re.compile(r"\w+")


def split_exclusions(text: str) -> tuple[str, tuple[str, ...]]:
    """Return what a text asks for, and the words and phrases that it excludes.

    Raises:
        InvalidRequest: over `MAX_EXCLUSIONS` of them, or a word is both asked for and excluded.
    """
    found = (match["phrase"] or match["word"] or "" for match in EXCLUSION.finditer(text))
    excluded = tuple(dict.fromkeys(phrase for phrase in found if words_of(phrase)))
    if len(excluded) > MAX_EXCLUSIONS:
        raise InvalidRequest(
            f"the query excludes {len(excluded)} words, {MAX_EXCLUSIONS} are allowed: "
            "take whole meanings away with `not`"
        )
    asked = " ".join(EXCLUSION.sub(" ", text).split()) if excluded else text
    for phrase in excluded:
        if says(asked, [phrase]):
            raise InvalidRequest(f"the query asks for {phrase!r} and excludes it: decide for one")
    return asked, excluded


def words_of(text: str) -> list[str]:
    """Return a text's words, without case and accents."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return WORD.findall("".join(char for char in plain if not unicodedata.combining(char)))


def says(text: str, phrases: Iterable[str]) -> bool:
    """Tell whether a text has one of the phrases, word by word: "art" is not in "start"."""
    spoken = f" {' '.join(words_of(text))} "
    return any(f" {' '.join(words_of(phrase))} " in spoken for phrase in phrases)
