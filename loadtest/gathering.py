"""What the legs of a running stack find for the questions of a made-up set: asked once, kept."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from gateway.catalogue.catalogue import Catalogue
from gateway.commands.local import local_settings
from gateway.doors import Doors, open_doors
from gateway.schemas import Filters, SearchRequest
from gateway.search.filters import expression
from gateway.search.intent import Intents, intents_of
from gateway.search.legs import Found, run_legs
from gateway.search.plan import plan_legs
from gateway.search.query import read_query
from gateway.settings import Settings
from loadtest.pairs import Segment
from loadtest.stack import MeasuredStack
from training.evaluation.evaluate import Progress, ingest, questions_of, written_set
from training.evaluation.report import Question, is_over
from training.world.absent import Part, absent_queries
from training.world.videos import Written

PIX = 1_000  # of each video: all that is in them was looked at
DEADLINE_MS = 30_000  # of a search: what is found is measured, not how fast
IN_FLIGHT = 4  # searches at once


@dataclass(frozen=True)
class Gathered:
    """What the legs found for one question."""

    text: str
    question: Question | None  # None: it is about nothing in the set
    right: frozenset[str]  # the segments that answer it
    found: Found
    intents: Intents = field(default_factory=dict)  # what its words ask for


@dataclass(frozen=True)
class Split:
    """A made-up set in a stack, and what was found in it."""

    seed: int
    segments: int
    answerable: tuple[Gathered, ...]
    absent: tuple[Gathered, ...]

    @property
    def video_ids(self) -> frozenset[str]:
        """The videos that anything was found in."""
        return frozenset(
            candidate.video_id
            for one in (*self.answerable, *self.absent)
            for candidates in one.found.candidates.values()
            for candidate in candidates
        )


def gather_split(
    stack: MeasuredStack, seed: int, segments: int, part: Part, progress: Progress
) -> Split:
    """Ingest a made-up set where that was not done, and ask its questions and absent ones.

    Args:
        stack: a running one.
        seed: of the set.
        segments: how many it has.
        part: of the things that are nowhere in it.
        progress: told of each step.

    Raises:
        PixserveError: a video could not be ingested, or no leg answers.
    """
    written = written_set(stack.data_dir / "evaluation", seed, segments, progress)
    creator = creator_of(seed, segments)
    paths = sorted({one.video for one in written})
    ids = ingest(stack.gateway, paths, creator, PIX, progress).ids
    settings = local_settings(stack.data_dir)
    questions, absent = questions_of(written), absent_queries(part)
    filters = Filters(creator_id=(creator,))
    steps = _counted(progress, len(questions) + len(absent))
    found = asyncio.run(_ask_all(settings, [q.text for q in questions] + [*absent], filters, steps))
    right = right_segments(settings, questions, ids)
    return Split(
        seed=seed,
        segments=segments,
        answerable=tuple(
            Gathered(question.text, question, right[question.name], *one)
            for question, one in zip(questions, found[: len(questions)], strict=True)
        ),
        absent=tuple(
            Gathered(text, None, frozenset(), *one)
            for text, one in zip(absent, found[len(questions) :], strict=True)
        ),
    )


def segments_of_set(
    stack: MeasuredStack, seed: int, segments: int, progress: Progress
) -> tuple[list[Segment], str]:
    """Ingest a made-up set where that was not done; return its segments with their ids.

    Returns:
        Those that one segment of the index is over, and the creator of the set's videos.

    Raises:
        PixserveError: a video could not be ingested.
    """
    written = written_set(stack.data_dir / "evaluation", seed, segments, progress)
    creator = creator_of(seed, segments)
    ids = ingest(stack.gateway, sorted({one.video for one in written}), creator, PIX, progress).ids
    questions = moments_of(written)
    right = right_segments(local_settings(stack.data_dir), questions, ids)
    return [
        Segment(segment_id, ids[one.video], one.captions, one.attributes)
        for one, question in zip(written, questions, strict=True)
        for segment_id in right[question.name]
        if len(right[question.name]) == 1
    ], creator


def creator_of(seed: int, segments: int) -> str:
    """Return the creator of a set's videos, by which searches are kept to it."""
    return f"evaluation-{seed}-{segments}-{PIX}"


async def _ask_all(
    settings: Settings, texts: Sequence[str], filters: Filters, done: Callable[[], None]
) -> list[tuple[Found, Intents]]:
    doors = open_doors(settings)
    turns = asyncio.Semaphore(IN_FLIGHT)

    async def ask(text: str) -> tuple[Found, Intents]:
        async with turns:
            found = await _ask(text, filters, doors)
        done()
        return found

    try:
        return await asyncio.gather(*map(ask, texts))
    finally:
        await doors.close()


async def _ask(text: str, filters: Filters, doors: Doors) -> tuple[Found, Intents]:
    request = SearchRequest(query=text, filters=filters, deadline_ms=DEADLINE_MS)
    query = read_query(request, doors.settings)
    sound_text = doors.bundle.dims.sound_text_tokens > 0
    found = await run_legs(
        plan_legs(query, doors.bundle.capabilities, sound_text=sound_text),
        query,
        doors,
        expression(filters),
        k=doors.settings.candidates_per_leg,
        timeout_s=query.deadline_s,
    )
    return found, intents_of(request, query, doors.bundle.intents, found.sentence)


def moments_of(written: Sequence[Written]) -> list[Question]:
    """Return the moment of each segment of a set, as a question without words."""
    return [
        Question(f"{one.video} {one.start_s:g}", "object", "", one.video, one.start_s, one.end_s)
        for one in written
    ]


def right_segments(
    settings: Settings, questions: Sequence[Question], ids: Mapping[str, str]
) -> dict[str, frozenset[str]]:
    """Return the segments that are over the right moment of each question, by its name.

    Args:
        settings: of the catalogue.
        questions: each about one moment of a file.
        ids: the videos, by file.
    """
    catalogue = Catalogue(settings.database_url)
    try:
        indexed = {path: catalogue.segments_of(video_id) for path, video_id in ids.items()}
    finally:
        catalogue.close()
    return {
        question.name: frozenset(
            segment.segment_id
            for segment in indexed[question.video]
            if is_over(question, segment.start_s, segment.end_s)
        )
        for question in questions
    }


def _counted(progress: Progress, total: int) -> Callable[[], None]:
    count = iter(range(1, total + 1))
    return lambda: progress("searching", next(count), total)
