"""A synthetic corpus of any size, put into catalogue and index through their own doors.

A base of texts in the words of the demo's transcripts is embedded by the stack's own Triton, so
that queries find what they mean; every further segment is a base text's with a little noise on its
vectors. Ids are fixed by the seed: loading the same corpus again adds nothing.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle
from ensembles.contracts import MAX_TEXT_BATCH
from gateway.catalogue.analyses import Findings, Modalities, SceneRecord, SegmentRecord
from gateway.catalogue.catalogue import Catalogue
from gateway.catalogue.library import NewVideo
from gateway.doors import current_bundle
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.schemas import Modality, VideoMetadata
from gateway.settings import Settings
from gateway.triton import Triton
from loadtest.queries import unique_queries

SEED = 31
SEGMENTS_A_VIDEO = 40
SEGMENT_S = 5.0
BASE_TEXTS = 1_000  # that are embedded; the others are near one of them
NOISE = 0.35  # length of the noise on a unit vector: a cosine of about 0.94 to the base
VIDEOS_A_WRITE = 20
EMBED_S = 30.0
WRITE_S = 60.0
CATEGORIES = ("tutorial", "music", "vlog", "news", "sport")
READY = Modality(percent=100, state="ready")
CORPUS_JOB = "loadtest-corpus"

Progress = Callable[[int, int], None]  # segments done, segments in all


@dataclass(frozen=True)
class Base:
    """Texts and what they embed to."""

    texts: Sequence[str]
    sentence: FloatArray  # (n, sentence)
    clip: FloatArray  # (n, vision)


async def load_corpus(
    settings: Settings, triton: str, milvus: str, segments: int, progress: Progress
) -> int:
    """Fill catalogue and index of a running stack up to a number of synthetic segments.

    Args:
        settings: of the stack: its data folder and database.
        triton: HOST:PORT.
        milvus: URI.
        segments: how many; rounded up to whole videos.
        progress: told of the segments that are there.

    Returns:
        How many were added.

    Raises:
        PixserveError: the stack does not answer.
    """
    catalogue = Catalogue(settings.database_url)
    bundle = current_bundle(settings, catalogue)
    index, embedder = Milvus(milvus), Triton(triton, bundle)
    try:
        return await fill(catalogue, bundle, index, embedder, segments, progress)
    finally:
        await embedder.close()
        await index.close()
        catalogue.close()


async def fill(
    catalogue: Catalogue,
    bundle: Bundle,
    index: Milvus,
    embedder: Triton,
    segments: int,
    progress: Progress,
) -> int:
    """Fill through doors that are open: as `load_corpus`.

    The index is written before the catalogue, so a video that the catalogue has is complete.
    """
    videos = -(-segments // SEGMENTS_A_VIDEO)
    ids = [video_id(number) for number in range(videos)]
    there = catalogue.pix_of(ids)
    missing = [number for number, name in enumerate(ids) if name not in there]
    if not missing:
        return 0
    await index.ensure_collections(bundle, timeout_s=WRITE_S)
    base = await _embed_base(embedder)
    added = 0
    for part in _parts(missing):
        rows = [row for number in part for row in video_rows(number, bundle, base)]
        await index.write(bundle, rows, timeout_s=WRITE_S)
        await asyncio.to_thread(_store, catalogue, bundle, part, base)
        added += len(rows)
        progress(len(there) * SEGMENTS_A_VIDEO + added, videos * SEGMENTS_A_VIDEO)
    return added


def _parts(numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    return (numbers[i : i + VIDEOS_A_WRITE] for i in range(0, len(numbers), VIDEOS_A_WRITE))


async def _embed_base(triton: Triton) -> Base:
    texts = unique_queries(BASE_TEXTS, SEED)
    sentence, clip = [], []
    for start in range(0, len(texts), MAX_TEXT_BATCH):
        batch = texts[start : start + MAX_TEXT_BATCH]
        sentence.append(await triton.embed_text(batch, "passage", timeout_s=EMBED_S))
        clip.append(await triton.embed_clip_text(batch, timeout_s=EMBED_S))
    return Base(texts, np.concatenate(sentence), np.concatenate(clip))


# ---- pure ---------------------------------------------------------------------------------------


def video_id(number: int) -> str:
    """Return the id of a synthetic video."""
    return f"corpus-{SEED}-{number}"


def segment_id(number: int, index: int) -> str:
    """Return the id of a synthetic segment, which ends with its start in milliseconds."""
    return f"{video_id(number)}-{round(index * SEGMENT_S * 1_000):09d}"


def video_rows(number: int, bundle: Bundle, base: Base) -> list[IndexRow]:
    """Return the index rows of one synthetic video: the same for the same number."""
    rng = np.random.default_rng((SEED, number))
    chosen = rng.integers(0, len(base.texts), SEGMENTS_A_VIDEO)
    speech = near(base.sentence[chosen], rng)
    visual = near(base.clip[chosen], rng)
    fused = unit(rng.standard_normal((SEGMENTS_A_VIDEO, bundle.dims.fused)))
    sound = unit(rng.standard_normal((SEGMENTS_A_VIDEO, bundle.dims.audio)))
    told = metadata(number, base)
    return [
        IndexRow(
            segment_id=segment_id(number, index),
            video_id=video_id(number),
            creator_id=told.creator_id,
            title=told.title,
            category=told.category,
            language=told.language,
            tags=told.tags,
            duration_s=SEGMENTS_A_VIDEO * SEGMENT_S,
            text=base.texts[text],
            visual=visual[index],
            speech=speech[index],
            sound=sound[index],
            fused=fused[index],
        )
        for index, text in enumerate(chosen)
    ]


def metadata(number: int, base: Base) -> VideoMetadata:
    """Return what is told of a synthetic video."""
    return VideoMetadata(
        title=f"Synthetic {number}: {base.texts[number % len(base.texts)]}"[:200],
        creator_id=f"corpus-{number % 50}",
        category=CATEGORIES[number % len(CATEGORIES)],
        tags=("synthetic",),
        language="en",
        pix=int(np.random.default_rng((SEED, number, 1)).pareto(1.2) * 10),
    )


def near(vectors: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Return unit vectors near the given ones: (n, width)."""
    return unit(vectors + NOISE * unit(rng.standard_normal(vectors.shape)))


def unit(vectors: NDArray[Any]) -> FloatArray:
    """Return vectors scaled to length one, as float32."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / lengths, dtype=np.float32)


def _store(catalogue: Catalogue, bundle: Bundle, numbers: Sequence[int], base: Base) -> None:
    """Put videos into the catalogue as the worker leaves them: ready, without work to do."""
    for number in numbers:
        catalogue.library.add(_new_video(number, base))
        catalogue.analyses.store(video_id(number), _findings(number, bundle, base))
    while job := catalogue.jobs.claim(CORPUS_JOB, lease_s=WRITE_S):
        catalogue.jobs.finish(job)


def _new_video(number: int, base: Base) -> NewVideo:
    return NewVideo(
        id=video_id(number),
        content_sha256=hashlib.sha256(video_id(number).encode()).hexdigest(),
        source_name="source.mp4",
        transcript_name=None,
        metadata=metadata(number, base),
        duration_s=SEGMENTS_A_VIDEO * SEGMENT_S,
        width=1280,
        height=720,
        has_video=True,
        has_audio=True,
    )


def _findings(number: int, bundle: Bundle, base: Base) -> Findings:
    rows = video_rows(number, bundle, base)
    times_s = [index * SEGMENT_S for index in range(len(rows))]
    segments = [
        SegmentRecord(
            id=row.segment_id,
            index=index,
            scene_index=index,
            start_s=start_s,
            end_s=start_s + SEGMENT_S,
            text=row.text,
            motion=0.1,
            frames=1,
        )
        for index, (row, start_s) in enumerate(zip(rows, times_s, strict=True))
    ]
    return Findings(
        scenes=[SceneRecord(start_s, start_s + SEGMENT_S, 0.1) for start_s in times_s],
        segments=segments,
        modalities=Modalities(visual=READY, audio=READY, transcript=READY),
        model_version=bundle.id,
        pix=metadata(number, base).pix,
        revision=1,
    )
