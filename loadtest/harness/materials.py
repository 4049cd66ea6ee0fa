"""What requests carry, made ready before the clock starts: texts, pictures, videos, chunks."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from ensembles.bundle import Bundle
from ensembles.chunk import ChunkEmbeddings, ChunkInput
from gateway.errors import ConfigurationError
from gateway.settings import Settings
from gateway.triton import Triton, served_bundle
from loadtest.harness.plan import ASKS_TEXT, Plan, Recording
from loadtest.harness.scenario import (
    EmbedImages,
    EmbedVideo,
    Replay,
    Scenario,
    SearchImage,
    Upload,
)

MAX_FILE_BYTES = 256 * 1024 * 1024  # of a query file, a recording or a video to upload
MAX_CHUNKS = 64  # different ones that embed_video is asked
MAX_UPLOAD_FILES = 64
METADATA_S = 10.0
VIDEO_SUFFIXES = frozenset({".mp4", ".mkv", ".webm", ".mov", ".m4v", ".avi"})


@dataclass(frozen=True)
class VideoFile:
    """A video to upload, and its transcript."""

    path: Path
    transcript: Path | None


class RecordedRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line of a recording."""

    at_s: float
    query: str


def read_lines(scenario: Scenario, folder: Path) -> Mapping[int, Sequence[str]]:
    """Read the query files of a scenario, by target.

    Raises:
        ConfigurationError: a file is missing, too large, or without a text.
    """
    lines: dict[int, Sequence[str]] = {}
    for index, target in enumerate(scenario.target):
        if isinstance(target, ASKS_TEXT) and target.queries.source == "file":
            text = _read(folder / target.queries.file, "queries.file").decode(errors="replace")
            lines[index] = [line.strip() for line in text.splitlines() if line.strip()]
            if not lines[index]:
                raise ConfigurationError(f"{target.queries.file} holds no query")
    return lines


def read_recording(scenario: Scenario, folder: Path) -> Recording | None:
    """Read the recording of a replay; None where the load is none.

    Raises:
        ConfigurationError: it is missing, too large, or a line is not as it should be.
    """
    if not isinstance(scenario.load, Replay):
        return None
    path = folder / scenario.load.file
    try:
        requests = msgspec.json.Decoder(RecordedRequest).decode_lines(_read(path, "load.file"))
    except msgspec.MsgspecError as error:
        raise ConfigurationError(
            f'{path}: expected lines like {{"at_s": 0.25, "query": "a text"}}: {error}'
        ) from error
    if not requests:
        raise ConfigurationError(f"{path} holds no request")
    return Recording([r.at_s for r in requests], [r.query for r in requests])


def payloads_of(
    scenario: Scenario, plan: Plan, triton: str, data_dir: Path | None, folder: Path
) -> tuple[Sequence[Any], ...]:
    """Make each target's payloads: what `Share.items` holds.

    Args:
        scenario: whose targets.
        plan: with the texts.
        triton: HOST:PORT, for chunks, which are cut as ingest cuts them.
        data_dir: of the local stack: where the demo's videos are.
        folder: that the scenario's files are relative to.

    Raises:
        ConfigurationError: there are no videos.
        PixserveError: a video cannot be cut into chunks.
    """
    made: list[Sequence[Any]] = []
    for index, target in enumerate(scenario.target):
        match target:
            case SearchImage() | EmbedImages():
                from loadtest.workloads import picture

                made.append([picture(seed) for seed in range(target.images)])
            case Upload():
                made.append(_videos(target.folder, data_dir, folder)[:MAX_UPLOAD_FILES])
            case EmbedVideo():
                videos = _videos(target.folder, data_dir, folder)
                made.append(asyncio.run(_chunks(videos, triton)))
            case _:
                made.append(plan.texts.get(index, [""]))
    return tuple(made)


def _read(path: Path, field: str) -> bytes:
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise ConfigurationError(f"{field}: {path} has {size} bytes, over {MAX_FILE_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{field}: cannot read {path}: {error.strerror}") from error


def _videos(wanted: str, data_dir: Path | None, folder: Path) -> list[VideoFile]:
    if wanted:
        files = sorted(p for p in (folder / wanted).glob("*") if p.suffix in VIDEO_SUFFIXES)
        if not files:
            raise ConfigurationError(f"there is no video in {folder / wanted}")
        return [VideoFile(path, None) for path in files]
    from deploy.demo.render import render_all

    if data_dir is None:
        raise ConfigurationError("name the videos: target.folder, or the stack's --data-dir")
    videos = render_all(data_dir / "demo", lambda _name, _done, _total: None)
    return [VideoFile(video.path, video.sidecar) for video in videos]


class _Keeping(Triton):
    """A Triton of which the chunks are kept that pass through it."""

    def __init__(self, address: str, bundle: Bundle) -> None:
        super().__init__(address, bundle)
        self.chunks: list[ChunkInput] = []

    async def embed_video(self, chunk: ChunkInput, *, timeout_s: float) -> ChunkEmbeddings:
        self.chunks.append(chunk)
        return await super().embed_video(chunk, timeout_s=timeout_s)


async def _chunks(videos: Sequence[VideoFile], address: str) -> list[ChunkInput]:
    """Cut videos into the chunks that ingest would send."""
    from ingest.pipeline import AnalysisRequest, analyse

    bundle = await served_bundle(address, timeout_s=METADATA_S)
    triton, settings = _Keeping(address, bundle), Settings(decode_once=False)
    try:
        for video in videos:
            request = AnalysisRequest(video_id="loadtest", pix=0, bundle=bundle)
            await analyse(video.path, request, settings, triton, lambda _stage, _percent: None)
            if len(triton.chunks) >= MAX_CHUNKS:
                break
    finally:
        await triton.close()
    return triton.chunks[:MAX_CHUNKS]
