"""What an ingest leaves of videos, in catalogue, index and files, and where two of them differ."""

import hashlib
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from gateway.catalogue.catalogue import SegmentFacts
from gateway.doors import Doors
from gateway.schemas import Video
from ingest.thumbnails import THUMBNAILS_FILE
from ingest.tokens import WIDE, Tokens, read_tokens, tokens_path

READ_S = 30.0  # for one question to the index
TOKENS_APART = 2e-3  # of two components, stored in half precision


@dataclass(frozen=True)
class Trace:
    """All that an ingest leaves of a video."""

    video: Video
    segments: tuple[SegmentFacts, ...]
    rows: Mapping[str, Collection[str]]  # leg → segments
    pictures: str  # digest
    tokens: Tokens


async def traces_of(doors: Doors, video_ids: Sequence[str]) -> dict[str, Trace]:
    """Read what there is of each video; one without tokens is left out."""
    legs = await doors.milvus.legs(timeout_s=READ_S)
    rows = {
        leg: await doors.milvus.inventory.ids_of(doors.bundle, leg, video_ids, timeout_s=READ_S)
        for leg in legs
    }
    found = {}
    for video_id in video_ids:
        folder = doors.settings.videos_dir / video_id
        if not tokens_path(folder, doors.bundle.id).is_file():
            continue
        found[video_id] = Trace(
            video=msgspec.structs.replace(doors.catalogue.library.video(video_id), created_at=""),
            segments=tuple(doors.catalogue.segments_of(video_id)),
            rows={leg: sorted(rows[leg].get(video_id, ())) for leg in legs},
            pictures=hashlib.sha256((folder / THUMBNAILS_FILE).read_bytes()).hexdigest(),
            tokens=read_tokens(tokens_path(folder, doors.bundle.id), doors.bundle),
        )
    return found


async def duplicates(doors: Doors) -> int:
    """Count rows of the index whose segment has another row in the same leg."""
    surplus = 0
    for leg in await doors.milvus.legs(timeout_s=READ_S):
        counts: Counter[str] = Counter()
        async for page in doors.milvus.inventory.rows(doors.bundle, leg, timeout_s=READ_S):
            counts.update(segment_id for segment_id, _ in page)
        surplus += counts.total() - len(counts)
    return surplus


def differences(calm: Mapping[str, Trace], stormy: Mapping[str, Trace]) -> list[str]:
    """Say where two rounds differ, one line each."""
    told = [f"{video}: only in one of the rounds" for video in sorted(calm.keys() ^ stormy.keys())]
    for video in sorted(calm.keys() & stormy.keys()):
        one, other = calm[video], stormy[video]
        for what in ("video", "segments", "rows", "pictures"):
            if getattr(one, what) != getattr(other, what):
                told.append(f"{video}: the {what} differ")
        if tokens_apart(one.tokens, other.tokens) > TOKENS_APART:
            told.append(f"{video}: the tokens differ")
    return told


def tokens_apart(one: Tokens, other: Tokens) -> float:
    """Return the largest difference of two components; infinite where shapes differ."""
    pairs = [(getattr(one, name), getattr(other, name)) for name in WIDE]
    if any(a.shape != b.shape for a, b in pairs):
        return float("inf")
    return max((float(np.abs(a - b).max()) for a, b in pairs if a.size), default=0.0)
