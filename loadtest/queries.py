"""Queries for measurements: seeded, each different, in the words of the demo's transcripts."""

import random
import re

from deploy.demo.topics import read_topics

SEED = 11
QUERY_WORDS = (3, 9)  # fewest and most words of a query


def unique_queries(count: int, seed: int = SEED) -> list[str]:
    """Return `count` different queries of 3 to 9 words that the demo videos say."""
    text = " ".join(cue.text for topic in read_topics() for cue in topic.cue)
    words = sorted(set(re.findall(r"[a-z]{3,}", text.lower())))
    rng = random.Random(seed)  # noqa: S311 (a measurement, not a secret)
    queries: dict[str, None] = {}
    while len(queries) < count:
        queries[" ".join(rng.sample(words, rng.randint(*QUERY_WORDS)))] = None
    return list(queries)
