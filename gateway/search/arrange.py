"""The order of the entries beyond their scores: near-duplicates, diversity, date and PIX."""

import asyncio
from collections.abc import Sequence

from gateway.doors import Doors
from gateway.errors import DeadlineExceeded, InvalidRequest, Overloaded, Unavailable
from gateway.index.rows import VECTOR_LEGS
from gateway.schemas import LegName, SearchRequest
from gateway.search.group import Entry
from gateway.search.page import Reader
from gateway.search.similar import MAX_COMPARED, Vectors, collapse, diversify

# Entries are compared by what they look like, sound like and say; a fused vector repeats that.
COMPARED_LEGS: tuple[LegName, ...] = tuple(leg for leg in VECTOR_LEGS if leg != "fused")


def check_arrangement(request: SearchRequest) -> None:
    """Refuse a request that asks for two orders at once; raises `InvalidRequest`."""
    if request.diversity > 0 and request.sort != "relevance":
        raise InvalidRequest(
            f"diversity {request.diversity:g} and sort {request.sort!r} are two orders: leave one "
            "of them out"
        )


async def arrange(
    entries: Sequence[Entry],
    request: SearchRequest,
    doors: Doors,
    reader: Reader,
    timeout_s: float,
) -> tuple[tuple[Entry, ...], tuple[str, ...]]:
    """Return the entries as a request wants them, and what was left out of that and why.

    Args:
        entries: best first, all of them relevant.
        request: says whether and how.
        doors: the way to the vectors of the index.
        reader: reads when videos were uploaded.
        timeout_s: how long the vectors may take; without them the order stays as it is.

    Raises:
        Unavailable: the catalogue does not answer.
    """
    ordered, degraded = tuple(entries), ()
    if request.collapse or request.diversity > 0:
        try:
            vectors = await _read_vectors(ordered[:MAX_COMPARED], doors, timeout_s)
        except (Unavailable, Overloaded) as error:
            return ordered, (f"{_option(request)}: {_reason(error)}",)
        if request.collapse:
            ordered = collapse(ordered, vectors)
        ordered = diversify(ordered, vectors, request.diversity)
    if request.sort == "pix":
        ordered = tuple(sorted(ordered, key=lambda entry: -entry.best.pix))
    if request.sort == "date" and ordered:
        created = await reader.created_at({entry.video_id for entry in ordered})
        newest_first = sorted(ordered, key=lambda e: created.get(e.video_id, ""), reverse=True)
        ordered = tuple(newest_first)
    return ordered, degraded


async def _read_vectors(entries: Sequence[Entry], doors: Doors, timeout_s: float) -> Vectors:
    """Return the vectors of the entries' best segments by leg and segment id."""
    if not entries:
        return {}
    ids = [entry.best.segment_id for entry in entries]
    found = await asyncio.gather(
        *(
            doors.milvus.stored.vectors(doors.bundle, leg, ids, timeout_s=timeout_s)
            for leg in COMPARED_LEGS
        )
    )
    return dict(zip(COMPARED_LEGS, found, strict=True))


def _option(request: SearchRequest) -> str:
    return "collapse" if request.collapse else "diversity"


def _reason(error: Unavailable | Overloaded) -> str:
    return "late" if isinstance(error, DeadlineExceeded) else "milvus unavailable"
