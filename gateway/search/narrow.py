"""What only the catalogue can tell of the segments that the legs found."""

from collections.abc import Iterator, Mapping, Sequence

from gateway.catalogue.bounds import ANY
from gateway.catalogue.catalogue import SegmentFacts
from gateway.errors import NotFound
from gateway.schemas import Level
from gateway.search.exclude import says
from gateway.search.fuse import Fused
from gateway.search.page import Reader
from gateway.search.query import Query
from gateway.search.rerank import Scored


async def require_like(query: Query, reader: Reader) -> None:
    """Raise `NotFound` where the video of the segment to be like cannot be found by searches."""
    if query.like and not await reader.pix_of({query.like_video}, ANY):
        raise NotFound(f"like: there is no segment {query.like} that searches can find")


async def without_excluded(
    segments: tuple[Fused, ...], query: Query, reader: Reader
) -> tuple[Fused, ...]:
    """Return the segments whose transcripts say none of the excluded words.

    The index has no filter by words: it knows transcripts in one of its legs alone.
    """
    if not query.excluded or not segments:
        return segments
    facts = await reader.segments({segment.segment_id for segment in segments})
    said = {segment_id: fact.text for segment_id, fact in facts.items()}
    return tuple(s for s in segments if not says(said.get(s.segment_id, ""), query.excluded))


async def at_level(ranked: tuple[Scored, ...], level: Level, reader: Reader) -> tuple[Scored, ...]:
    """Return the segments, best first; at the level of scenes each scene's best alone."""
    if level == "segment" or not ranked:
        return ranked
    facts = await reader.segments({one.segment_id for one in ranked})
    return tuple(best_of_scenes(ranked, facts))


def best_of_scenes(ranked: Sequence[Scored], facts: Mapping[str, SegmentFacts]) -> Iterator[Scored]:
    """Yield the first segment of each scene; what the catalogue no longer has is left out."""
    seen: set[tuple[str, int]] = set()
    for one in ranked:
        fact = facts.get(one.segment_id)
        if fact is not None and (one.video_id, fact.scene_index) not in seen:
            seen.add((one.video_id, fact.scene_index))
            yield one
