"""The way of a search: a request in, the moments of videos that match out."""

from gateway.doors import Doors
from gateway.schemas import SearchReply, SearchRequest
from gateway.search.calibrate import calibrate
from gateway.search.coherence import coherence
from gateway.search.filters import expression
from gateway.search.fuse import fuse, leg_weights
from gateway.search.group import group
from gateway.search.legs import plan_legs, run_legs
from gateway.search.page import Clock, Reader, hits_of
from gateway.search.query import read_query
from gateway.search.rerank import PixLaw, rerank
from gateway.settings import Settings

LEGS_SHARE = 0.85  # of the deadline; the rest is for the catalogue, the ranking and the reply


async def search(request: SearchRequest, doors: Doors, settings: Settings) -> SearchReply:
    """Answer a search.

    Args:
        request: what is asked for.
        doors: the way to Triton, Milvus and the catalogue.
        settings: deadlines, candidates of a leg, the PIX law's numbers.

    Returns:
        Hits, best first, with the parts of their scores; what was left out; the stages' times. The
        `request_id` is for the caller to fill in.

    Raises:
        InvalidRequest, TooLarge: the request cannot be answered as it is.
        MediaRefused: the image or the sound cannot be decoded.
        Unavailable: no leg, or not the catalogue, could answer.
    """
    clock = Clock()
    query = read_query(request, settings)
    sound_text = doors.bundle.dims.sound_text_tokens > 0
    plan = plan_legs(query, doors.bundle.capabilities, request.weights, sound_text=sound_text)
    law = PixLaw(_or(request.pix_weight, settings.pix_weight), settings.pix_cap)
    reader = Reader(doors, clock)

    rich_videos = await reader.videos_with_pix(request.filters.min_pix)
    found = await run_legs(
        plan,
        query,
        doors,
        expression(request.filters, rich_videos),
        k=settings.candidates_per_leg,
        timeout_s=query.deadline_s * LEGS_SHARE - clock.elapsed_s(),
    )
    by_words = {leg for leg, source in plan.items() if source in ("clip", "sound_text")}
    matches = calibrate(found.candidates, doors.bundle.calibration, by_words)
    weights = leg_weights(found.candidates, request.mode, request.weights, request.category)
    segments = fuse(matches, weights)
    lifts = coherence(segments, settings.coherence_weight)
    pix = await reader.pix_of({segment.video_id for segment in segments}, request.filters.min_pix)
    ranked = rerank(segments, lifts, pix, law)
    page = group(ranked, request.group)[: request.limit]
    facts = await reader.facts_of(page)

    return SearchReply(
        hits=tuple(hits_of(page, facts)),
        model_version=doors.bundle.id,
        random_weights=doors.bundle.random_weights,
        degraded=found.degraded,
        stage_ms=clock.times(found.embed_s, found.legs_s),
        request_id="",
    )


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
