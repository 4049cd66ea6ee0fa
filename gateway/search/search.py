"""The way of a search: a request in, the moments of videos that match out."""

from ensembles.bundle import Bundle
from gateway.catalogue.bounds import ANY
from gateway.doors import Doors
from gateway.schemas import SearchReply, SearchRequest
from gateway.search.arrange import arrange, check_arrangement
from gateway.search.calibrate import calibrate
from gateway.search.clarity import by_clarity
from gateway.search.coherence import coherence
from gateway.search.cursor import check_cursor, turn
from gateway.search.cutoff import MAX_CUT, cut, cutoff_of
from gateway.search.evidence import weigh_evidence
from gateway.search.filters import bounds_of, but_like, expression
from gateway.search.fuse import fuse, leg_weights
from gateway.search.group import group
from gateway.search.hits import hits_of
from gateway.search.intent import answerable, doubt, intents_of
from gateway.search.legs import run_legs
from gateway.search.narrow import at_level, require_like, without_excluded
from gateway.search.page import Clock, Reader
from gateway.search.plan import plan_legs
from gateway.search.query import read_query
from gateway.search.rerank import PixLaw, rerank
from gateway.search.within import depth_of, only_within
from gateway.settings import Settings

LEGS_SHARE = 0.85  # of the deadline; the rest is for the catalogue, the ranking and the reply
VERSION_KEY_CHARS = 8  # of the bundle's key in the name of an index
EXCLUDING_K = 2  # times as many candidates where excluded words will drop some of them


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
        MediaRefused: the image, the sound or the clip cannot be decoded.
        NotFound: there is no segment such as the one that others are to be like.
        Unavailable: no leg, or not the catalogue, could answer.
    """
    clock = Clock()
    query = read_query(request, settings)
    sound_text = doors.bundle.dims.sound_text_tokens > 0
    plan = plan_legs(query, doors.bundle.capabilities, request.weights, sound_text=sound_text)
    law = PixLaw(_or(request.pix_weight, settings.pix_weight), settings.pix_cap)
    reader = Reader(doors, clock, query.deadline_s)
    bounds = bounds_of(request.filters)
    others = but_like(query, request.filters)
    index_version = version_of(doors.bundle)
    check_arrangement(request)
    check_cursor(request, index_version)

    await require_like(query, reader)
    videos = await reader.videos_within(bounds)
    unnamed = videos is None and bounds != ANY
    k = settings.candidates_per_leg * (EXCLUDING_K if query.excluded else 1)
    found = await run_legs(
        plan,
        query,
        doors,
        expression(request.filters, videos, others),
        k=depth_of(k) if unnamed else k,
        timeout_s=query.deadline_s * LEGS_SHARE - clock.elapsed_s(),
    )
    if unnamed:
        found = await only_within(found, bounds, reader, k)
    matches = calibrate(found.candidates, found.bands, found.judged)
    matches = weigh_evidence(matches, query.text)
    intents = intents_of(request, query, doors.bundle.intents, found.sentence)
    meant = answerable(intents, found.candidates)
    weights = leg_weights(found.candidates, request.mode, request.weights, request.category, meant)
    if request.weights is None:
        weights = by_clarity(weights, matches, doubt(meant))
    fused = fuse(matches, weights, request.fusion_rule)
    segments = await without_excluded(fused, query, reader)
    lifts = coherence(segments, settings.coherence_weight)
    pix = await reader.pix_of({segment.video_id for segment in segments}, bounds)
    words = bool(query.text)
    cutoff = cutoff_of(request.cutoff, settings.cutoff, found.candidates, words=words)
    kept, dropped = cut(rerank(segments, lifts, pix, law), cutoff)
    kept = await at_level(kept, request.filters.level, reader)
    entries, unarranged = await arrange(
        group(kept, request.group), request, doors, reader, query.deadline_s - clock.elapsed_s()
    )
    page = turn(entries, request, index_version)
    below = group(dropped, request.group)[:MAX_CUT] if request.show_cut else ()
    facts = await reader.facts_of((*page.entries, *below))

    return SearchReply(
        hits=tuple(hits_of(page.entries, facts, query.text)),
        next=page.next,
        cutoff=cutoff,
        cut=tuple(hits_of(below, facts, query.text)),
        cut_off=len(dropped),
        model_version=doors.bundle.id,
        index_version=index_version,
        mode=request.mode,
        intents=dict(intents),
        random_weights=doors.bundle.random_weights,
        degraded=(*found.degraded, *unarranged),
        stage_ms=clock.times(found.embed_s, found.legs_s),
        request_id="",
    )


def version_of(bundle: Bundle) -> str:
    """Return what tells an index from any other: its bundle, and which export of that it was."""
    return f"{bundle.id}.{bundle.key[:VERSION_KEY_CHARS]}" if bundle.key else bundle.id


def _or(value: float | None, default: float) -> float:
    return default if value is None else value
