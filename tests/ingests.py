"""Videos put through the worker's own code, with a stand-in for Triton."""

import asyncio
import hashlib
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np

from ensembles.arrays import FloatArray, UInt8Array
from ensembles.bundle import Bundle
from ensembles.chunk import ChunkEmbeddings, ChunkInput, SegmentTokens
from gateway.catalogue.claims import ClaimedJob, Lane
from gateway.catalogue.library import NewVideo
from gateway.doors import Doors, open_doors
from gateway.index.rows import LEGS
from gateway.schemas import VideoMetadata
from gateway.triton import Triton
from ingest.probe import probe
from tests.gateways import BUNDLE, gateway_settings

SRT = b"1\n00:00:00,000 --> 00:00:02,000\nknead the sourdough well\n"


class Embedder:
    """Stands in for Triton: the same input gives the same unit vectors."""

    def __init__(self, bundle: Bundle) -> None:
        self._dims = bundle.dims
        self.is_ready = True
        self.calls = 0
        self.hangs = False  # a chunk never comes back
        self.fused = 0  # segments
        self.frames = 0  # looked at
        self.before: Callable[[], None] = lambda: None

    async def ready(self, *, timeout_s: float) -> bool:  # noqa: ARG002 (as Triton has it)
        return self.is_ready

    async def embed_video(
        self,
        chunk: ChunkInput,
        *,
        timeout_s: float,  # noqa: ARG002 (as Triton has it)
    ) -> ChunkEmbeddings:
        self.calls += 1
        self.frames += int((chunk.frame_weights > 0).sum())
        self.before()
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        return ChunkEmbeddings(
            frames=units(len(chunk.frame_indices), self._dims.vision, "frames"),
            audio=units(len(chunk.audio_starts_s), self._dims.audio, "audio"),
            text=np.concatenate(
                [units(1, self._dims.sentence, text) for text in chunk.transcripts]
            ),
            fused=units(len(chunk.transcripts), self._dims.fused, "fused"),
        )

    async def embed_frames(
        self,
        frames: UInt8Array,
        *,
        timeout_s: float,  # noqa: ARG002 (as Triton has it)
    ) -> FloatArray:
        self.frames += len(frames)
        self.before()
        return units(len(frames), self._dims.vision, "frames")

    async def embed_text(
        self,
        texts: Sequence[str],
        role: str,
        *,
        timeout_s: float,  # noqa: ARG002 (as Triton has it)
    ) -> FloatArray:
        assert role == "passage"
        self.before()
        return np.concatenate([units(1, self._dims.sentence, text) for text in texts])

    async def fuse(self, tokens: SegmentTokens, *, timeout_s: float) -> FloatArray:  # noqa: ARG002
        self.fused += len(tokens.frames)
        return units(len(tokens.frames), self._dims.fused, "fused")

    async def close(self) -> None:
        return


def units(count: int, width: int, seed: str) -> FloatArray:
    rng = np.random.default_rng(int(hashlib.sha256(seed.encode()).hexdigest()[:8], 16))
    rows = rng.normal(size=(count, width)).astype(np.float32)
    return cast("FloatArray", rows / np.linalg.norm(rows, axis=1, keepdims=True))


def embedder(doors: Doors) -> Embedder:
    return cast("Embedder", doors.triton)


def failing_with(doors: Doors, error: Exception) -> None:
    """Have every chunk fail from now on."""

    def fail() -> None:
        raise error

    embedder(doors).before = fail


def add(
    doors: Doors, video_id: str, source: Path, sidecar: bytes | None = SRT, **metadata: object
) -> str:
    """Put a video where an upload puts it; return its job."""
    folder = doors.settings.videos_dir / video_id
    folder.mkdir(parents=True)
    shutil.copy(source, folder / f"source{source.suffix}")
    if sidecar is not None:
        (folder / "transcript.srt").write_bytes(sidecar)
    info = probe(source)
    accepted = doors.catalogue.library.add(
        NewVideo(
            id=video_id,
            content_sha256="0" * 64,
            source_name=f"source{source.suffix}",
            transcript_name=None if sidecar is None else "transcript.srt",
            metadata=VideoMetadata(**metadata),  # type: ignore[arg-type]
            duration_s=info.duration_s,
            width=info.video.width if info.video else None,
            height=info.video.height if info.video else None,
            has_video=info.video is not None,
            has_audio=info.audio is not None,
        )
    )
    return accepted.job_id


def claim(doors: Doors, lease_s: float = 60, lane: Lane = "analyses") -> ClaimedJob:
    job = doors.catalogue.jobs.claim("test", lease_s=lease_s, lane=lane)
    assert job is not None
    return job


def due(doors: Doors) -> None:
    """End the rest of what was put back."""
    with doors.catalogue._database.write() as connection:
        connection.exec_driver_sql("update jobs set run_at_s = 0")


async def counts(doors: Doors, video_id: str) -> dict[str, int]:
    return {leg: await doors.milvus.count(BUNDLE, leg, video_id, timeout_s=10) for leg in LEGS}


@asynccontextmanager
async def opened_doors(folder: Path, milvus_uri: str) -> AsyncIterator[Doors]:
    """A worker's doors: a real catalogue and index of their own, and the stand-in."""
    settings = gateway_settings(folder, milvus_uri, job_lease_s=5.0, base_frames_per_s=1.0)
    opened = open_doors(settings)
    await opened.triton.close()
    doors = replace(opened, triton=cast("Triton", Embedder(BUNDLE)))
    await doors.milvus.ensure_collections(BUNDLE, timeout_s=10)
    yield doors
    await doors.close()
