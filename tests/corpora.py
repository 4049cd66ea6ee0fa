"""A small corpus in the real index and the real catalogue, with a fake Triton before it."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import msgspec

from ensembles.bundle import Bundle
from gateway.catalogue.catalogue import Catalogue
from gateway.doors import Doors
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.search.cache import Cache
from gateway.settings import Settings
from gateway.threads import Threads
from gateway.triton import Triton
from tests.catalogues import empty_catalogue, findings, new_video
from tests.fake_triton import FakeTriton, looks, meaning

T = 10.0


@asynccontextmanager
async def opened_doors(
    bundle: Bundle, milvus_uri: str, folder: Path, **changes: object
) -> AsyncIterator[Doors]:
    """Doors to a real Milvus, a real catalogue in `folder`, and a fake Triton."""
    milvus = Milvus(milvus_uri)
    told: dict[str, Any] = {"search_deadline_ms": 5_000, "cutoff": 0.0} | changes
    settings = Settings(**told)
    with empty_catalogue(f"sqlite:///{folder / 'catalogue.db'}") as catalogue:
        doors = Doors(
            settings=settings,
            bundle=bundle,
            triton=cast(Triton, FakeTriton(bundle)),
            milvus=milvus,
            catalogue=catalogue,
            threads=Threads(2, "catalogue"),
            disk=Threads(2, "disk"),
            embeddings=Cache(100),
        )
        await milvus.ensure_collections(bundle, timeout_s=T)
        yield doors
        await doors.close()


async def add_video(
    doors: Doors,
    video_id: str,
    texts: Sequence[str],
    *,
    indexed: bool = True,
    pictures_of: str | None = None,
    **metadata: object,
) -> None:
    """Add a searchable video with a segment of 5 s for each text, which looks like `picture`."""
    new = new_video(video_id, **metadata)
    rows = [
        index_row(
            video_id,
            5_000 * number,
            creator_id=new.metadata.creator_id,
            title=new.metadata.title,
            category=new.metadata.category,
            language=new.metadata.language,
            tags=new.metadata.tags,
            duration_s=new.duration_s,
            text=text,
            visual=looks(picture(pictures_of or video_id, number), doors.bundle.dims.vision),
            speech=meaning(text, doors.bundle.dims.sentence) if text else None,
        )
        for number, text in enumerate(texts)
    ]
    if indexed:
        await doors.milvus.write(doors.bundle, rows, timeout_s=T)
    store(doors.catalogue, video_id, texts, **metadata)


def store(catalogue: Catalogue, video_id: str, texts: Sequence[str], **metadata: object) -> None:
    catalogue.library.add(new_video(video_id, **metadata))
    found = findings(video_id, segments=len(texts))
    segments = [
        msgspec.structs.replace(segment, text=text)
        for segment, text in zip(found.segments, texts, strict=True)
    ]
    catalogue.analyses.store(video_id, msgspec.structs.replace(found, segments=segments))


def index_row(video_id: str, number: int = 0, **changes: Any) -> IndexRow:
    """A segment's row: but for the changes nothing is known of it, and no leg has it."""
    row = IndexRow(
        segment_id=f"{video_id}-{number:09d}",
        video_id=video_id,
        creator_id="c",
        title="",
        category=None,
        language=None,
        tags=(),
        duration_s=9.0,
        text="",
    )
    return replace(row, **changes)


def picture(video_id: str, number: int) -> bytes:
    """The image that a segment's pictures are like."""
    return f"{video_id} {number}".encode()
