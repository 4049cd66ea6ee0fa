"""Builds another version's index beside the one that searches use, from what the catalogue has.

Nothing of the current version is touched: the new one has collections of its own, and tokens of
its own beside each video. Segments stay those of the catalogue, so both versions find the same
moments: where a video must be decoded again, it is at the times that its kept tokens tell of. What
was built is not built again, so a build that was killed is resumed, and one that is repeated only
catches up with what was uploaded or deepened meanwhile.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from ensembles.bundle import Bundle
from ensembles.sameness import same_encoders
from gateway.api.incoming import room
from gateway.catalogue.analyses import VideoRecord
from gateway.catalogue.catalogue import SegmentFacts
from gateway.doors import Doors
from gateway.errors import ConfigurationError, Conflict, NotFound, PixserveError, Unavailable
from gateway.index.rows import VideoFields
from ingest.chunks import cut_chunks
from ingest.from_tokens import check_segments, check_texts, rows_from_tokens
from ingest.gathering import joined
from ingest.kept_places import ANY_WEIGHTS, kept_segments, reweighed
from ingest.pipeline import AnalysisRequest, analyse, embed_chunk, fused_of
from ingest.probe import probe_with_packets
from ingest.reindex import checked_tokens
from ingest.tasks import WRITE_S, analysis_request, erase_rows, write_index
from ingest.tokens import TOKENS_FILE, Tokens, kept_tokens_path, read_tokens
from ingest.verify import verify

ROUNDS = 3  # over what is missing: uploads go on while the first one runs
DROP_S = 60.0
UNBUILT = frozenset({"missing rows", "surplus rows", "no tokens"})  # what a build mends

Done = Callable[[], None]  # one more video was looked at


@dataclass(frozen=True)
class Built:
    """What a build came to."""

    built: int  # videos whose rows were written
    failed: dict[str, str]  # video → why it has none


async def build(doors: Doors, sources: Sequence[Bundle], lanes: int, done: Done) -> Built:
    """Write all searchable videos into the index of the doors' bundle.

    Args:
        doors: to the version that is built; searches use another one.
        sources: the other bundles that are here; where one of them made a video's tokens with the
            same encoders, nothing is decoded, and with others only the frames of those tokens.
        lanes: videos at once.
        done: told of each video.

    Raises:
        Unavailable: Triton does not serve the bundle, or Milvus or the catalogue does not answer.
    """
    if not await doors.triton.ready(timeout_s=WRITE_S):
        raise Unavailable(
            "triton", f"Triton does not serve {doors.bundle.id}: restart the stack after an export"
        )
    doors.catalogue.versions.keep(doors.bundle.id)
    same = [b for b in sources if same_encoders(b, doors.bundle, doors.settings.models_dir)]
    building = _Build(doors, sources, same, done)
    for _ in range(ROUNDS):
        videos = await unbuilt(doors)
        if not set(videos) - building.failed.keys():
            break
        await building.all_of(videos, lanes)
    return Built(building.built, building.failed)


async def unbuilt(doors: Doors) -> tuple[str, ...]:
    """Return the searchable videos whose rows the doors' version does not have as it should."""
    await doors.milvus.ensure_collections(doors.bundle, timeout_s=WRITE_S)
    parts = doors.settings, doors.catalogue, doors.milvus
    verified = await verify(*parts, doors.bundle, lambda *_: None)
    wanted = (finding.video_id for finding in verified.findings if finding.kind in UNBUILT)
    return tuple(dict.fromkeys(wanted))


async def drop(doors: Doors, bundle: Bundle) -> None:
    """Remove a version's collections, and the tokens that were made for it.

    Raises:
        Conflict: searches use it.
        Unavailable: Milvus or the catalogue does not answer.
    """
    doors.catalogue.versions.forget(bundle.id)
    await doors.milvus.inventory.drop(bundle, timeout_s=DROP_S)
    await doors.disk.call(_remove_tokens, doors.settings.videos_dir, bundle.id)


def _remove_tokens(videos_dir: Path, bundle_id: str) -> None:
    for path in videos_dir.glob(f"*/{kept_tokens_path(Path(), bundle_id).name}"):
        path.unlink(missing_ok=True)


class _Build:
    def __init__(
        self, doors: Doors, sources: Sequence[Bundle], same: Sequence[Bundle], done: Done
    ) -> None:
        self._doors = doors
        self._sources = sources  # bundles whose tokens tell what was looked at
        self._same = same  # those of them whose tokens will do as they are
        self._done = done
        self.built = 0
        self.failed: dict[str, str] = {}

    async def all_of(self, videos: Sequence[str], lanes: int) -> None:
        """Build some videos, a few at once; what cannot be built is noted."""
        waiting = iter(videos)
        await asyncio.gather(*(self._lane(waiting) for _ in range(lanes)))

    async def _lane(self, waiting: Iterator[str]) -> None:
        for video_id in waiting:
            why = ""
            try:
                await self._video(video_id)
                self.built += 1
                self.failed.pop(video_id, None)
            except NotFound:
                continue  # deleted meanwhile
            except Unavailable as error:
                if error.part != "sandbox":
                    raise
                why = error.message
            except PixserveError as error:
                why = error.message
            if why:
                self.failed[video_id] = why
            self._done()

    async def _video(self, video_id: str) -> None:
        """Write one video's rows, as `reindex` does, from tokens that the version's models made."""
        doors, call = self._doors, self._doors.threads.call
        record = await call(doors.catalogue.analyses.record, video_id)
        if record.state != "ready":
            raise NotFound(f"the video {video_id} is {record.state}")
        segments = await call(doors.catalogue.segments_of, video_id)
        folder = doors.settings.videos_dir / video_id
        tokens = await self._tokens(record, segments, folder)
        fused = await fused_of(doors.triton, tokens)
        rows = rows_from_tokens(record, segments, tokens, fused)
        await write_index(doors, video_id, rows)
        await self._settle(record)

    async def _tokens(
        self, record: VideoRecord, segments: list[SegmentFacts], folder: Path
    ) -> Tokens:
        """Return a video's tokens of this version: there already, taken over, or made now."""
        doors = self._doors
        with suppress(ConfigurationError):
            return await doors.disk.call(checked_tokens, doors, folder, segments)
        tokens = await doors.disk.call(_kept, self._same, folder, segments, check_texts)
        if tokens is not None:
            tokens = replace(tokens, model_version=doors.bundle.id)
        else:
            tokens = await self._embedded(record, segments, folder)
        await doors.disk.call(_keep, tokens, folder)
        return tokens

    async def _embedded(
        self, record: VideoRecord, segments: list[SegmentFacts], folder: Path
    ) -> Tokens:
        """Decode and embed a video: where its kept tokens say, without any by a new analysis."""
        doors, path = self._doors, folder / record.source_name
        seen = msgspec.structs.replace(record, pix=record.analysed_pix or 0)
        request = await doors.disk.call(analysis_request, doors, seen, folder)
        kept = await doors.disk.call(_kept, self._sources, folder, segments, check_segments)
        if kept is not None:
            return await _embedded_again(doors, path, request, segments, kept)
        analysis = await analyse(path, request, doors.settings, doors.triton, lambda *_: None)
        try:
            check_segments(analysis.tokens, segments)
        except ConfigurationError as error:
            raise Conflict(
                "its tokens are lost, and an analysis of now finds other segments "
                "than the catalogue has: after the switch, pixserve reindex --analyse this video"
            ) from error
        return analysis.tokens

    async def _settle(self, written: VideoRecord) -> None:
        """Bring in what was changed of a video while its rows were written."""
        doors, call = self._doors, self._doors.threads.call
        while True:
            try:
                record = await call(doors.catalogue.analyses.record, written.id)
            except NotFound:
                record = msgspec.structs.replace(written, state="deleting")
            if record.state == "deleting":  # its job may have erased its rows before these came
                await erase_rows(doors, written.id)
                raise NotFound(f"the video {written.id} was deleted")
            if record.revision == written.revision:
                return
            fields = VideoFields(
                title=record.title,
                category=record.category,
                language=record.language,
                tags=record.tags,
            )
            await doors.milvus.update_video(doors.bundle, written.id, fields, timeout_s=WRITE_S)
            written = record


async def _embedded_again(
    doors: Doors,
    path: Path,
    request: AnalysisRequest,
    segments: Sequence[SegmentFacts],
    kept: Tokens,
) -> Tokens:
    """Embed a video with the doors' bundle at the places that its kept tokens tell of."""
    info, packets = await probe_with_packets(path)
    places, texts = kept_segments(kept, segments, packets), [one.text for one in segments]
    chunks = cut_chunks(path, info, packets, places, texts, ANY_WEIGHTS, doors.settings)
    parts: list[Tokens] = []
    while (chunk := await asyncio.to_thread(next, chunks, None)) is not None:
        parts.append(await embed_chunk(chunk, request, doors.triton))
    return reweighed(joined(parts), kept)


def _kept(
    sources: Sequence[Bundle],
    folder: Path,
    segments: Sequence[SegmentFacts],
    check: Callable[[Tokens, Sequence[SegmentFacts]], None],
) -> Tokens | None:
    """Return a video's tokens that one of some bundles made; None where none pass the check."""
    for source in sources:
        for path in (folder / TOKENS_FILE, kept_tokens_path(folder, source.id)):
            with suppress(ConfigurationError):
                tokens = read_tokens(path, source)
                check(tokens, segments)
                return tokens
    return None


def _keep(tokens: Tokens, folder: Path) -> None:
    try:
        with room():
            tokens.write(kept_tokens_path(folder, tokens.model_version))
    except FileNotFoundError as error:
        raise NotFound(f"the video {folder.name} was deleted") from error
