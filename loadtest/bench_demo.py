"""Paraphrased queries over the demo videos: is the right video first, and the right moment near?"""

from collections.abc import Mapping, Sequence

import msgspec

from deploy.demo.topics import TextQuery
from gateway.client import Client
from gateway.schemas import SearchReply, SearchRequest

BEST_SEGMENTS = 3  # among which the right one must be
DEADLINE_MS = 30_000  # of a search: the answers are measured, not their speed


class Answer(msgspec.Struct, frozen=True):
    """How one query was answered."""

    query: str
    right_video: str
    first_video: str | None
    right_video_first: bool
    segment_rank: int | None  # of the first segment that overlaps the right moment; 1 is best


class DemoReport(msgspec.Struct, frozen=True):
    """How all were."""

    queries: int
    right_video_first: int
    right_segment_first: int
    right_segment_among_best: int
    answers: tuple[Answer, ...]


def bench_demo(client: Client, queries: Sequence[TextQuery], ids: Mapping[str, str]) -> DemoReport:
    """Ask each query by video and by segment.

    Args:
        client: of a gateway that holds the demo videos.
        queries: with their right moments.
        ids: the id of each demo video, by its name.
    """
    answers = tuple(_ask(client, query, ids) for query in queries)
    ranks = [answer.segment_rank for answer in answers]
    return DemoReport(
        queries=len(answers),
        right_video_first=sum(answer.right_video_first for answer in answers),
        right_segment_first=sum(rank == 1 for rank in ranks),
        right_segment_among_best=sum(rank is not None and rank <= BEST_SEGMENTS for rank in ranks),
        answers=answers,
    )


def _ask(client: Client, query: TextQuery, ids: Mapping[str, str]) -> Answer:
    names = {video_id: name for name, video_id in ids.items()}
    asked = SearchRequest(query=query.text, deadline_ms=DEADLINE_MS)
    videos = client.search(asked)
    segments = client.search(msgspec.structs.replace(asked, group="segment"))
    first = names.get(videos.hits[0].video_id, "another") if videos.hits else None
    return Answer(
        query=query.text,
        right_video=query.video,
        first_video=first,
        right_video_first=first == query.video,
        segment_rank=_rank(segments, query, ids[query.video]),
    )


def _rank(reply: SearchReply, query: TextQuery, video_id: str) -> int | None:
    right = (
        hit.video_id == video_id and query.is_answered_by(hit.start_s, hit.end_s)
        for hit in reply.hits
    )
    ranks = (rank for rank, is_right in enumerate(right, 1) if is_right)
    return next(ranks, None)
