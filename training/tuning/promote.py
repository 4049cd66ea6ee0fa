"""Makes another bundle the one that searches use, without an analysis where the tokens will do.

Where only fusion differs, every video's rows are written into the new bundle's collections from
its kept tokens; the old collections and tokens stay, and the catalogue notes the version before, so
`pixserve index rollback` goes back at once. Where encoders differ, all videos are queued to be
analysed again. Either may be repeated: what is done is not done twice.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Literal

import msgspec
import numpy as np

from deploy.state import read_state
from ensembles.arrays import FloatArray
from ensembles.bundle import Bundle, bundle_folder
from ensembles.sameness import same_encoders
from gateway.catalogue.catalogue import Catalogue
from gateway.commands.local import local_settings
from gateway.errors import Conflict
from gateway.index.milvus import Milvus
from gateway.index.rows import IndexRow
from gateway.schemas import Video
from gateway.settings import Settings
from ingest.gathering import segment_mean
from ingest.tokens import Tokens, kept_tokens_path, read_tokens
from training.tuning.candidates import find_bundle
from training.tuning.finetune import fuse_segments
from training.tuning.pairs import TOKENS_FILE, token_table

PAGE = 100  # videos read at once
PREPARE_S = 30.0  # for making the collections
WRITE_S = 60.0  # for all rows of one video
UNFINISHED = ("queued", "running")

Progress = Callable[[str, int, int], None]  # what is being done, videos done, videos in all


class Promoted(msgspec.Struct, frozen=True):
    """What was done to make a bundle current."""

    bundle: str
    videos: int  # that were not this bundle's yet
    how: Literal["from tokens", "queued"]


def promote(
    bundle_id: str, settings: Settings, catalogue: Catalogue, progress: Progress
) -> Promoted:
    """Make a bundle current; the stack uses it from its next start on.

    Args:
        bundle_id: an exported bundle, e.g. `mini-2`.
        settings: of the stack's data folder.
        catalogue: of the stack.
        progress: told of each video.

    Raises:
        NotFound: there is no such bundle.
        Conflict: videos are being analysed; or encoders differ and the stack still runs.
        ConfigurationError: the index is needed, but the stack does not run.
        Unavailable: Milvus does not answer.
    """
    new = find_bundle(settings.models_dir, bundle_id)
    stale = [video for video in _ready_videos(catalogue) if video.model_version != new.id]
    makers = {video.model_version: find_bundle(settings.models_dir, video.model_version or "")
              for video in stale}  # fmt: skip
    if not all(same_encoders(maker, new, settings.models_dir) for maker in makers.values()):
        return _queue(new, stale, settings, catalogue)
    _check_idle(catalogue)
    catalogue.versions.keep(new.id)
    asyncio.run(_write_rows(new, stale, settings, catalogue, progress))
    catalogue.versions.switch(new.id)
    for video in stale:
        folder = settings.videos_dir / video.id
        tokens = read_tokens(folder / TOKENS_FILE, makers[video.model_version])
        tokens.write(kept_tokens_path(folder, tokens.model_version))  # for the way back
        replace(tokens, model_version=new.id).write(folder / TOKENS_FILE)
        kept_tokens_path(folder, new.id).unlink(missing_ok=True)
        catalogue.analyses.moved(video.id, new.id)
    return Promoted(new.id, len(stale), "from tokens")


def _queue(
    new: Bundle, stale: Sequence[Video], settings: Settings, catalogue: Catalogue
) -> Promoted:
    """Have all videos analysed again, by the workers of the stack's next start."""
    if read_state(settings.data_path / "run") is not None:
        raise Conflict(
            f"{new.id} has other encoders, so all videos are analysed again, by workers that use "
            "it: stop the stack first with pixserve down"
        )
    catalogue.versions.switch(new.id)
    for video in stale:
        catalogue.jobs.add(video.id, "ingest")
    return Promoted(new.id, len(stale), "queued")


def _ready_videos(catalogue: Catalogue) -> Iterator[Video]:
    after: str | None = None
    while True:
        page = catalogue.library.page(after, PAGE)
        yield from (video for video in page.videos if video.state == "ready")
        if page.next is None:
            return
        after = page.next


def _check_idle(catalogue: Catalogue) -> None:
    counts = catalogue.jobs.counts()
    busy = sum(count for (_, state), count in counts.items() if state in UNFINISHED)
    if busy:
        raise Conflict(f"{busy} jobs are not finished: wait until pixserve status shows none")


async def _write_rows(
    new: Bundle,
    videos: Sequence[Video],
    settings: Settings,
    catalogue: Catalogue,
    progress: Progress,
) -> None:
    milvus = Milvus(local_settings(settings.data_path).milvus)
    try:
        await milvus.ensure_collections(new, timeout_s=PREPARE_S)
        for done, video in enumerate(videos):
            progress("writing the index", done, len(videos))
            maker = find_bundle(settings.models_dir, video.model_version or "")
            tokens = read_tokens(settings.videos_dir / video.id / TOKENS_FILE, maker)
            rows = index_rows(video, tokens, new, settings, catalogue)
            await milvus.write(new, rows, timeout_s=WRITE_S)
    finally:
        await milvus.close()


def index_rows(
    video: Video, tokens: Tokens, new: Bundle, settings: Settings, catalogue: Catalogue
) -> list[IndexRow]:
    """Return a video's rows of a bundle's index, made from its tokens.

    Args:
        video: as the catalogue has it.
        tokens: its, by a bundle with the same encoders.
        new: the bundle whose fusion is used.
        settings: where its files are.
        catalogue: has the segments' texts.
    """
    facts = catalogue.segments(catalogue.analyses.segment_ids(video.id)).values()
    segments = sorted(facts, key=lambda segment: segment.index)
    table = token_table([(tokens, {s.index: row for row, s in enumerate(segments)})], len(segments))
    folder = bundle_folder(settings.models_dir, new.profile, new.version)
    fused = fuse_segments(folder / "fusion" / "model.onnx", new, table)
    return [
        IndexRow(
            segment_id=segment.segment_id,
            video_id=video.id,
            creator_id=video.creator_id,
            title=video.title,
            category=video.category,
            language=video.language,
            tags=video.tags,
            duration_s=video.duration_s or 0.0,
            text=segment.text,
            visual=segment_mean(
                tokens.frames, tokens.frame_segments, tokens.frame_weights, segment.index
            ),
            speech=_spoken(tokens, segment.index),
            sound=segment_mean(
                tokens.audio, tokens.audio_segments, tokens.audio_weights, segment.index
            ),
            fused=fused[row] if np.any(fused[row]) else None,
        )
        for row, segment in enumerate(segments)
    ]


def _spoken(tokens: Tokens, number: int) -> FloatArray | None:
    """Return what a segment says, a unit vector; tokens are kept in half precision."""
    return segment_mean(tokens.text, tokens.text_segments, tokens.text_weights, number)
