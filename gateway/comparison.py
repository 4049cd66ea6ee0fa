"""Two versions of the index asked the same questions: do they find the same, and the right thing?

The questions are what segments say, so the right answer is known: the video of that segment. Of
each leg that words reach, the search is held against brute force over the leg's own vectors.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from ensembles.arrays import FloatArray
from gateway.catalogue.catalogue import Catalogue
from gateway.doors import Doors
from gateway.errors import InvalidRequest
from gateway.index.neighbours import Neighbours, mean_recall, overlap
from gateway.schemas import LegName, SearchRequest
from gateway.search.search import search

SEED = 17
QUERY_WORDS = 12  # of what a segment says
TOP = 10  # hits that are compared
K = 100  # candidates of a leg
CALM_MS = 10_000  # deadline of a search: no leg may be left out
CALM_S = 30.0

Progress = Callable[[], None]  # a query was asked


@dataclass(frozen=True)
class Question:
    """Words, and the video that says them."""

    words: str
    video_id: str


class LegComparison(msgspec.Struct, frozen=True):
    """One leg of both versions."""

    leg: LegName
    rows: tuple[int, int]
    recall: tuple[float, float]  # of the K nearest by brute force over the version's own vectors
    overlap: float  # of the first TOP


class Comparison(msgspec.Struct, frozen=True):
    """What came out; pairs are (the first version, the second)."""

    versions: tuple[str, str]
    queries: int
    legs: tuple[LegComparison, ...]
    overlap: float  # of the first TOP segments of whole searches
    right_video: tuple[float, float]  # share of searches with the right video among the first TOP


def questions(catalogue: Catalogue, count: int) -> list[Question]:
    """Return what some segments say, each of another video as long as there are videos.

    Args:
        catalogue: of the stack.
        count: how many at most; the same ones for the same catalogue.

    Raises:
        InvalidRequest: nothing is said in any video.
    """
    rng = random.Random(SEED)  # noqa: S311 (a sample, not a secret)
    videos = catalogue.library.ready_ids()
    rng.shuffle(videos)
    said = [[s.text for s in catalogue.segments_of(v) if s.text] for v in videos[:count]]
    pairs = zip(videos, said, strict=False)
    spoken = [(video, rng.sample(texts, len(texts))) for video, texts in pairs if texts]
    if not spoken:
        raise InvalidRequest("no video has a transcript, so there is nothing to ask")
    longest = max(len(texts) for _, texts in spoken)
    asked = [
        Question(" ".join(texts[turn].split()[:QUERY_WORDS]), video)
        for turn in range(longest)
        for video, texts in spoken
        if turn < len(texts)
    ]
    return asked[:count]


async def compare(
    one: Doors, other: Doors, asked: Sequence[Question], progress: Progress
) -> Comparison:
    """Ask both versions everything.

    Args:
        one: to the first version.
        other: to the second, of the same catalogue and index.
        asked: at least one question.
        progress: told of each question.

    Raises:
        Unavailable: a part does not answer.
    """
    hits: list[tuple[_Answer, _Answer]] = []
    for question in asked:
        hits.append((await _found(one, question), await _found(other, question)))
        progress()
    pairs = list(zip(asked, hits, strict=True))
    right = [
        float(np.mean([q.video_id in pair[side].videos for q, pair in pairs])) for side in (0, 1)
    ]
    sides = [await _legs(doors, [question.words for question in asked]) for doors in (one, other)]
    return Comparison(
        versions=(one.bundle.id, other.bundle.id),
        queries=len(asked),
        legs=tuple(
            _compared(leg, sides[0][leg], sides[1][leg]) for leg in sides[0] if leg in sides[1]
        ),
        overlap=float(np.mean([overlap(a.segments, b.segments, TOP) for a, b in hits])),
        right_video=(right[0], right[1]),
    )


@dataclass(frozen=True)
class _Answer:
    """What a whole search found."""

    segments: list[str]
    videos: set[str]


@dataclass(frozen=True)
class _Leg:
    """What one leg of one version found."""

    rows: int
    found: list[list[str]]  # by query
    recall: float


async def _found(doors: Doors, question: Question) -> _Answer:
    """Return the first segments that a search finds, and their videos."""
    request = SearchRequest(query=question.words, group="segment", limit=TOP, deadline_ms=CALM_MS)
    reply = await search(request, doors, doors.settings)
    segments = [moment.segment_id for hit in reply.hits for moment in hit.moments]
    return _Answer(segments, {hit.video_id for hit in reply.hits})


async def _legs(doors: Doors, words: Sequence[str]) -> dict[LegName, _Leg]:
    """Search each leg that words reach, and hold it against brute force."""
    vectors = await _vectors(doors, words)
    return {leg: await _leg(doors, leg, queries) for leg, queries in vectors.items()}


async def _vectors(doors: Doors, words: Sequence[str]) -> Mapping[LegName, FloatArray]:
    """Return the questions' vectors, (queries, width), for each leg."""
    both = [await doors.triton.embed_query(text, timeout_s=CALM_S) for text in words]
    vectors: dict[LegName, FloatArray] = {"speech": np.stack([v.sentence for v in both])}
    if doors.bundle.capabilities.words_to_pixels:
        clip = np.stack([v.clip for v in both])
        vectors |= {"visual": clip}
        if doors.bundle.capabilities.fusion_trained:
            vectors |= {"fused": clip}
    return vectors


async def _leg(doors: Doors, leg: LegName, queries: FloatArray) -> _Leg:
    truth = Neighbours(queries, K)
    rows = 0
    pages = doors.milvus.inventory.vectors(doors.bundle, leg, timeout_s=CALM_S)
    async for ids, vectors in pages:
        truth.add(ids, vectors)
        rows += len(ids)
    found = []
    for query in queries:
        candidates = await doors.milvus.search_vector(
            doors.bundle, leg, query, k=K, expression="", timeout_s=CALM_S
        )
        found.append([candidate.segment_id for candidate in candidates])
    return _Leg(rows, found, mean_recall(found, truth.ids()))


def _compared(leg: LegName, one: _Leg, other: _Leg) -> LegComparison:
    pairs = zip(one.found, other.found, strict=True)
    return LegComparison(
        leg=leg,
        rows=(one.rows, other.rows),
        recall=(one.recall, other.recall),
        overlap=float(np.mean([overlap(a, b, TOP) for a, b in pairs])),
    )
