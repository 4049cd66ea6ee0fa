"""A catalogue and an index of a chosen size, filled with clustered vectors, for measurements.

The vectors stand for those of an encoder, which is measured by itself: a text's vector is fixed by
its words, and texts come in topics. Segments are near one of a thousand texts, as in the corpus of
the load tests.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import cast

import numpy as np

from ensembles.arrays import FloatArray
from ensembles.bundle import Band, Bundle, Capabilities
from ensembles.contracts import Dimensions
from gateway.catalogue.catalogue import Catalogue
from gateway.doors import CATALOGUE_THREADS, DISK_THREADS, Doors
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.search.cache import Cache
from gateway.settings import Settings
from gateway.threads import Threads
from gateway.triton import QueryEmbeddings, Triton
from loadtest.harness.corpus import fill, unit

WIDTH = 768  # numbers of a vector
TOPICS = 32
TOPIC_SHARE = 0.5  # of a text's vector that its topic says, as a squared cosine
PREPARE_S = 300.0
WRITE_S = 300.0
REMEMBERED = 50_000  # vectors of texts, so that no measurement pays for making them
DEADLINE_MS = 10_000  # of a search that is measured: nothing may be left out of it

BANDS = {
    leg: Band(low=0.0, high=1.0)
    for leg in ("visual", "speech", "sound", "fused", "visual_by_words", "sound_by_words")
}


def synthetic_bundle(rows: int) -> Bundle:
    """Return the bundle whose collections a corpus of this size has."""
    dims = Dimensions(
        vision=WIDTH,
        sentence=WIDTH,
        audio=WIDTH,
        fused=WIDTH,
        image_size_px=224,
        clip_tokens=77,
        sentence_tokens=128,
    )
    return Bundle(
        profile="synthetic",
        version=rows,
        dims=dims,
        capabilities=Capabilities(
            words_to_pixels=True, words_to_sounds=False, fusion_trained=False
        ),
        calibration={**BANDS, "keyword": Band(low=0.0, high=8.0)},
    )


class SyntheticEmbedder:
    """Stands where Triton is, and answers at once: the same words, the same unit vectors."""

    async def ready(self, *, timeout_s: float) -> bool:
        """Tell that it is there."""
        return timeout_s > 0

    async def embed_query(self, text: str, *, timeout_s: float) -> QueryEmbeddings:  # noqa: ARG002
        """Return both vectors of a query."""
        return QueryEmbeddings(clip=vector_of(text, "clip"), sentence=vector_of(text, "sentence"))

    async def embed_text(
        self,
        texts: Sequence[str],
        role: str,  # noqa: ARG002 (as Triton has it)
        *,
        timeout_s: float,  # noqa: ARG002 (as Triton has it)
    ) -> FloatArray:
        """Return the vectors of texts as speech: (n, WIDTH)."""
        return np.stack([vector_of(text, "sentence") for text in texts])

    async def embed_clip_text(self, texts: Sequence[str], *, timeout_s: float) -> FloatArray:  # noqa: ARG002
        """Return the vectors of texts as pictures: (n, WIDTH)."""
        return np.stack([vector_of(text, "clip") for text in texts])

    async def close(self) -> None:
        """Do nothing."""


@lru_cache(maxsize=REMEMBERED)
def vector_of(text: str, space: str) -> FloatArray:
    """Return a text's vector in a space: its topic's and its own, mixed; (WIDTH,), unit length."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8])
    topic = _topic(f"{space} topic {seed % TOPICS}")
    own = _random(f"{space} text {seed}")
    mixed = np.sqrt(TOPIC_SHARE) * topic + np.sqrt(1 - TOPIC_SHARE) * own
    return unit(mixed)


@lru_cache(maxsize=2 * TOPICS)
def _topic(name: str) -> FloatArray:
    return _random(name)


def _random(name: str) -> FloatArray:
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
    return unit(np.random.default_rng(seed).standard_normal(WIDTH))


class _ThreeLegs:
    """The index without the legs that words do not reach here: half the work of filling it."""

    def __init__(self, milvus: Milvus) -> None:
        self._milvus = milvus

    async def ensure_collections(self, bundle: Bundle, *, timeout_s: float) -> None:
        await self._milvus.ensure_collections(bundle, timeout_s=max(timeout_s, PREPARE_S))

    async def write(self, bundle: Bundle, rows: Sequence[IndexRow], *, timeout_s: float) -> None:
        kept = [replace(row, sound=None, fused=None) for row in rows]
        await self._milvus.write(bundle, kept, timeout_s=max(timeout_s, WRITE_S))


@asynccontextmanager
async def synthetic_doors(
    folder: Path, milvus_uri: str, rows: int, progress: Callable[[int, int], None]
) -> AsyncIterator[Doors]:
    """Give the doors to a corpus of a size, made where it is not there; remove it from the index.

    Args:
        folder: of its catalogue.
        milvus_uri: of the engine that is measured.
        rows: segments, rounded up to whole videos.
        progress: told of the segments that are there, and of how many there will be.
    """
    bundle = synthetic_bundle(rows)
    settings = Settings(
        data_dir=str(folder), profile=bundle.profile, search_deadline_ms=DEADLINE_MS
    )
    doors = Doors(
        settings=settings,
        bundle=bundle,
        triton=cast(Triton, SyntheticEmbedder()),
        milvus=Milvus(milvus_uri, ef=settings.search_ef),
        catalogue=Catalogue(f"sqlite:///{folder / f'{rows}.db'}"),
        threads=Threads(CATALOGUE_THREADS, "catalogue"),
        disk=Threads(DISK_THREADS, "disk"),
        embeddings=Cache(1),  # what vectors cost is measured elsewhere
    )
    try:
        index = cast(Milvus, _ThreeLegs(doors.milvus))
        await doors.milvus.inventory.drop(bundle, timeout_s=PREPARE_S)
        await fill(doors.catalogue, bundle, index, doors.triton, rows, progress)
        yield doors
        await doors.milvus.inventory.drop(bundle, timeout_s=PREPARE_S)
    finally:
        await doors.close()
