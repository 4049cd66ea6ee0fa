"""What was found in the videos: written by the ingest worker, one transaction a step."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, bindparam, delete, insert, select, update
from sqlalchemy.sql.dml import Update

from gateway.catalogue import tables
from gateway.catalogue.claims import is_worked_on
from gateway.catalogue.database import Database
from gateway.errors import Conflict, NotFound
from gateway.schemas import Modality, VideoState

_videos = tables.videos.c


class VideoRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What a job must know of its video."""

    id: str
    creator_id: str
    content_sha256: str
    state: VideoState
    source_name: str
    transcript_name: str | None
    title: str
    category: str | None
    language: str | None
    tags: tuple[str, ...]
    pix: int
    duration_s: float
    analysed_pix: int | None
    revision: int


class SceneRecord(msgspec.Struct, frozen=True):
    """One scene of a video."""

    start_s: float
    end_s: float
    motion: float  # 0…1


class SegmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One segment of a video: the unit of search."""

    id: str
    index: int
    scene_index: int
    start_s: float
    end_s: float
    text: str
    motion: float  # 0…1
    frames: int  # sampled


class Modalities(msgspec.Struct, frozen=True, kw_only=True):
    """How far each modality of a video is."""

    visual: Modality
    audio: Modality
    transcript: Modality


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """The outcome of an analysis, all of which is in the index already."""

    scenes: Sequence[SceneRecord]
    segments: Sequence[SegmentRecord]
    modalities: Modalities
    model_version: str
    pix: int  # that the analysis was given
    revision: int  # of the metadata that went into the index


class Analyses:
    """The analyses of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def record(self, video_id: str) -> VideoRecord:
        """Return what a job must know of its video; raises `NotFound`."""
        names = VideoRecord.__struct_fields__
        query = select(*(_videos[name] for name in names)).where(_videos.id == video_id)
        with self._database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise NotFound(f"there is no video {video_id}")
        return msgspec.convert({name: row[name] for name in names}, VideoRecord)

    def segment_ids(self, video_id: str) -> set[str]:
        """Return the ids of the segments that the last analysis left."""
        query = select(tables.segments.c.id).where(tables.segments.c.video_id == video_id)
        with self._database.read() as connection:
            return set(connection.execute(query).scalars())

    def begin(self, video_id: str) -> None:
        """Mark a queued video as being processed; one that is searchable stays so."""
        with self._database.write() as connection:
            queued = _of(video_id).where(_videos.state == "queued")
            connection.execute(queued.values(state="processing"))

    def progress(self, video_id: str, percent: int) -> None:
        """Tell how far the first analysis is, in each modality that the video has."""
        with self._database.write() as connection:
            _set_modalities(connection, video_id, Modality(percent=percent, state="running"))

    def store(self, video_id: str, found: Findings) -> None:
        """Replace a video's scenes and segments, and make it searchable.

        Raises:
            Conflict: the video is gone or is being deleted.
        """
        values: dict[str, Any] = {
            "state": "ready",
            "error": None,
            "segment_count": len(found.segments),
            "modalities": msgspec.to_builtins(found.modalities),
            "model_version": found.model_version,
            "analysed_pix": found.pix,
            "indexed_revision": found.revision,
        }
        with self._database.write() as connection:
            if connection.execute(_alive(video_id).values(values)).rowcount == 0:
                raise Conflict(f"the video {video_id} was deleted while it was analysed")
            _replace_scenes(connection, video_id, found.scenes)
            _replace_segments(connection, video_id, found.segments)

    def heard(self, video_id: str, percent: int) -> None:
        """Tell how much of a searchable video's sound is heard."""
        with self._database.write() as connection:
            now = Modality(percent=percent, state="running")
            tell_transcript(connection, video_id, now)

    def store_transcript(
        self, video_id: str, texts: Mapping[str, str], transcript: Modality, revision: int
    ) -> None:
        """Replace what is said in a searchable video, all of which is in the index already.

        Args:
            video_id: whose.
            texts: what is said in its segments, by their ids.
            transcript: how far it is now.
            revision: of the metadata that went into the index.

        Raises:
            Conflict: the video is gone or is being deleted.
        """
        rows = [{"segment": name, "said": said} for name, said in texts.items()]
        replaced = (
            update(tables.segments)
            .where(tables.segments.c.id == bindparam("segment"))
            .values(text=bindparam("said"))
        )
        with self._database.write() as connection:
            modalities = _modalities(connection, video_id, ("ready",))
            if modalities is None:
                raise Conflict(f"the video {video_id} was deleted while it was transcribed")
            told = modalities | {"transcript": msgspec.to_builtins(transcript)}
            values = {"modalities": told, "indexed_revision": revision}
            connection.execute(_alive(video_id).values(values))
            if rows:
                connection.execute(replaced, rows)

    def moved(self, video_id: str, model_version: str) -> None:
        """Note that another bundle's index has a video's segments now."""
        with self._database.write() as connection:
            connection.execute(_alive(video_id).values(model_version=model_version))

    def outdated(self, limit: int) -> tuple[str, ...]:
        """Return searchable videos whose metadata the index has not got yet.

        A video that a job works on is left out: the job writes the index itself.
        """
        query = (
            select(_videos.id)
            .where(_videos.state == "ready", _videos.indexed_revision < _videos.revision)
            .where(~is_worked_on(_videos.id))
            .limit(limit)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def mark_indexed(self, video_id: str, revision: int) -> bool:
        """Note that the index has the metadata of this revision; False where the video is gone."""
        with self._database.write() as connection:
            noted = connection.execute(_alive(video_id).values(indexed_revision=revision))
            return noted.rowcount == 1


def mark_failed(connection: Connection, video_id: str, error: str) -> None:
    """Mark a video that is not searchable yet as failed, with the reason that its creator reads."""
    _set_modalities(connection, video_id, Modality(percent=0, state="failed"))
    unfinished = _of(video_id).where(_videos.state.in_(("queued", "processing")))
    connection.execute(unfinished.values(state="failed", error=error))


def tell_transcript(connection: Connection, video_id: str, now: Modality) -> None:
    """Tell of the transcript of a searchable video, as long as it is awaited."""
    stored = _modalities(connection, video_id, ("ready",))
    if stored is not None and stored["transcript"]["state"] in ("pending", "running"):
        told = stored | {"transcript": msgspec.to_builtins(now)}
        connection.execute(_alive(video_id).values(modalities=told))


def _modalities(
    connection: Connection, video_id: str, states: Sequence[VideoState]
) -> dict[str, Any] | None:
    """Return the modalities of a video in one of these states, to be changed; None elsewhere."""
    query = select(_videos.modalities).where(_videos.id == video_id, _videos.state.in_(states))
    stored: dict[str, Any] | None = connection.execute(query.with_for_update()).scalar_one_or_none()
    return stored


def _set_modalities(connection: Connection, video_id: str, now: Modality) -> None:
    """Change the modalities of a video that is not searchable yet, but for those it has not."""
    stored = _modalities(connection, video_id, ("queued", "processing"))
    if stored is None:
        return
    told = msgspec.to_builtins(now)
    changed = {name: old if old["state"] == "absent" else told for name, old in stored.items()}
    connection.execute(_alive(video_id).values(modalities=changed))


def _of(video_id: str) -> Update:
    return update(tables.videos).where(_videos.id == video_id)


def _alive(video_id: str) -> Update:
    """Update a video unless it is being deleted: nothing may bring it back."""
    return _of(video_id).where(_videos.state != "deleting")


def _replace_scenes(connection: Connection, video_id: str, scenes: Sequence[SceneRecord]) -> None:
    connection.execute(delete(tables.scenes).where(tables.scenes.c.video_id == video_id))
    rows = [
        {"video_id": video_id, "index": index, **msgspec.structs.asdict(scene)}
        for index, scene in enumerate(scenes)
    ]
    if rows:
        connection.execute(insert(tables.scenes), rows)


def _replace_segments(
    connection: Connection, video_id: str, segments: Sequence[SegmentRecord]
) -> None:
    connection.execute(delete(tables.segments).where(tables.segments.c.video_id == video_id))
    rows = [{"video_id": video_id, **msgspec.structs.asdict(segment)} for segment in segments]
    if rows:
        connection.execute(insert(tables.segments), rows)
