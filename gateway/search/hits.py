"""The entries of a page, with what the catalogue tells of them, as hits. Pure."""

from collections.abc import Iterable, Iterator

from gateway.schemas import Hit, Moment
from gateway.search.group import Entry
from gateway.search.highlight import highlights
from gateway.search.moments import Joined, join, text_of
from gateway.search.page import Facts


def hits_of(page: Iterable[Entry], facts: Facts, words: str) -> Iterator[Hit]:
    """Yield the hits of a page; what the catalogue no longer has is left out.

    Args:
        page: in its order.
        facts: of the page's segments and videos.
        words: of the query, to be shown in the transcripts; "" where it has none.
    """
    for entry in page:
        video = facts.videos.get(entry.video_id)
        joined = join(entry.segments, facts.segments)
        if video and joined:
            moments = tuple(_moment(one, words, video.has_pictures) for one in joined)
            yield Hit(
                video_id=video.video_id,
                title=video.title,
                creator_id=video.creator_id,
                category=video.category,
                created_at=video.created_at,
                score=moments[0].score,
                start_s=moments[0].start_s,
                end_s=moments[0].end_s,
                moments=moments,
                duplicates=entry.duplicates,
            )


def thumbnail_url(video_id: str, segment_id: str) -> str:
    """Return the address of a segment's picture, under the gateway's own."""
    return f"/v1/videos/{video_id}/thumbnails/{segment_id}.webp"


def _moment(joined: Joined, words: str, has_pictures: bool) -> Moment:
    best, text = joined.best, text_of(joined)
    return Moment(
        segment_id=best.segment_id,
        start_s=joined.segments[0].start_s,
        end_s=joined.segments[-1].end_s,
        score=best.score,
        text=text,
        parts=best.parts,
        segments=tuple(segment.segment_id for segment in joined.segments),
        highlights=highlights(text, words),
        thumbnail=thumbnail_url(best.video_id, best.segment_id) if has_pictures else None,
    )
