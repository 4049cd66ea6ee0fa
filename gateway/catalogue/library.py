"""The videos of the catalogue: added by uploads, listed, changed, and taken out."""

import base64
from collections.abc import Collection
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, delete, func, insert, select, tuple_, update

from gateway.catalogue import tables
from gateway.catalogue.claims import Kind
from gateway.catalogue.clock import timestamp
from gateway.catalogue.database import Database, id_batches
from gateway.catalogue.job_queue import cancel_others, enqueue, latest_job
from gateway.catalogue.ledger import append_upload
from gateway.errors import Conflict, InvalidRequest, NotFound
from gateway.schemas import (
    Accepted,
    Job,
    Modality,
    Video,
    VideoMetadata,
    VideoPage,
    VideoPatch,
    VideoState,
)

_videos = tables.videos.c

WAITING = Modality(percent=0, state="pending")
ABSENT = Modality(percent=0, state="absent")


_INGEST: tuple[Kind] = ("ingest",)
_DELETE: tuple[Kind] = ("delete",)


class NewVideo(msgspec.Struct, frozen=True, kw_only=True):
    """An upload that is complete, was probed, and lies in the video's folder."""

    id: str
    content_sha256: str
    source_name: str
    transcript_name: str | None
    metadata: VideoMetadata
    duration_s: float
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool


class Library:
    """The videos of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def video(self, video_id: str) -> Video:
        """Return a video; raises `NotFound`."""
        with self._database.read() as connection:
            return _to_video(_row(connection, video_id))

    def page(self, after: str | None, limit: int) -> VideoPage:
        """Return up to `limit` videos, newest first.

        Args:
            after: `next` of the page before; None for the first page.
            limit: videos in a page.

        Raises:
            InvalidRequest: `after` is not what a page gave.
        """
        query = select(tables.videos).order_by(_videos.created_at.desc(), _videos.id.desc())
        if after is not None:
            query = query.where(tuple_(_videos.created_at, _videos.id) < _decode_cursor(after))
        with self._database.read() as connection:
            rows = connection.execute(query.limit(limit + 1)).mappings().all()
        videos = tuple(_to_video(row) for row in rows[:limit])
        more = len(rows) > limit
        return VideoPage(videos=videos, next=_encode_cursor(videos[-1]) if more else None)

    def existing(self, video_id: str) -> Accepted | None:
        """Return what an upload of this content was answered, where it need not be done again.

        Raises:
            Conflict: the video is being deleted.
        """
        with self._database.read() as connection:
            return _existing(connection, video_id)

    def add(self, new: NewVideo) -> Accepted:
        """Add a video, its first PIX and its job in one transaction.

        A video that is there already stays as it is, unless its analysis had failed: then it is
        taken in anew with the new metadata. Its ledger is kept: of the PIX of the new upload only
        what is over that of the uploads before is added, so that sending again costs nothing.

        Raises:
            Conflict: the video is being deleted.
        """
        try:
            return self._add(new)
        except Conflict:  # another process added it in this moment, so now it is there
            return self._add(new)

    def _add(self, new: NewVideo) -> Accepted:
        with self._database.write() as connection:
            known = _existing(connection, new.id)
            if known is not None:
                return known
            values = _values(new)
            failed = (_videos.id == new.id) & (_videos.state == "failed")
            if connection.execute(update(tables.videos).where(failed).values(values)).rowcount == 0:
                created = {"id": new.id, "pix": 0, "created_at": timestamp()}
                connection.execute(insert(tables.videos).values(values | created))
            append_upload(connection, new.id, new.metadata.pix)
            job = enqueue(connection, new.id, "ingest")
        return Accepted(video_id=new.id, job_id=job.id, existing=False)

    def patch(self, video_id: str, patch: VideoPatch) -> Video:
        """Change what is given; raises `NotFound`, or `Conflict` while it is being deleted."""
        given = {
            name: value
            for name, value in msgspec.structs.asdict(patch).items()
            if value is not msgspec.UNSET
        }
        with self._database.write() as connection:
            row = _row(connection, video_id)
            if row["state"] == "deleting":
                raise Conflict(f"the video {video_id} is being deleted")
            changed = update(tables.videos).where(_videos.id == video_id)
            connection.execute(changed.values(revision=_videos.revision + 1, **given))
            return _to_video(_row(connection, video_id))

    def begin_delete(self, video_id: str) -> Job:
        """Take a video out of searches now, and enqueue the removal of all that is left of it.

        Raises:
            NotFound: there is no such video.
        """
        with self._database.write() as connection:
            row = _row(connection, video_id)
            if row["state"] == "deleting":
                pending = latest_job(
                    connection, video_id, kinds=_DELETE, states=("queued", "running")
                )
                return pending or enqueue(connection, video_id, "delete")
            cancel_others(connection, video_id)
            _set_state(connection, video_id, "deleting")
            return enqueue(connection, video_id, "delete")

    def remove(self, video_id: str) -> dict[str, int]:
        """Remove a video with its scenes, segments and ledger: the end of a deletion.

        Returns:
            What is left of it, rows by table; empty where all is gone.
        """
        with self._database.write() as connection:
            connection.execute(delete(tables.videos).where(_videos.id == video_id))
            return _rows_left(connection, video_id)

    def known(self, video_ids: Collection[str]) -> set[str]:
        """Return those of `video_ids` that the catalogue has, in whatever state."""
        return set(self.states(video_ids))

    def ready_ids(self) -> list[str]:
        """Return the ids of all searchable videos, in order."""
        query = select(_videos.id).where(_videos.state == "ready").order_by(_videos.id)
        with self._database.read() as connection:
            return list(connection.execute(query).scalars())

    def states(self, video_ids: Collection[str]) -> dict[str, VideoState]:
        """Return the states of those of `video_ids` that the catalogue has."""
        found: dict[str, VideoState] = {}
        with self._database.read() as connection:
            for batch in id_batches(video_ids):
                query = select(_videos.id, _videos.state).where(_videos.id.in_(batch))
                found.update({row.id: row.state for row in connection.execute(query)})
        return found


def _rows_left(connection: Connection, video_id: str) -> dict[str, int]:
    owned = (tables.scenes, tables.segments, tables.investments)
    counts = {
        table.name: connection.execute(
            select(func.count()).select_from(table).where(table.c.video_id == video_id)
        ).scalar_one()
        for table in owned
    }
    return {name: count for name, count in counts.items() if count}


def _row(connection: Connection, video_id: str) -> RowMapping:
    query = select(tables.videos).where(_videos.id == video_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise NotFound(f"there is no video {video_id}")
    return row


def _existing(connection: Connection, video_id: str) -> Accepted | None:
    query = select(_videos.state).where(_videos.id == video_id)
    state: VideoState | None = connection.execute(query).scalar_one_or_none()
    if state == "deleting":
        raise Conflict(f"this video, {video_id}, is being deleted: upload it again in a moment")
    job = latest_job(connection, video_id, kinds=_INGEST)
    if state in (None, "failed") or job is None:
        return None
    return Accepted(video_id=video_id, job_id=job.id, existing=True)


def _set_state(connection: Connection, video_id: str, state: VideoState) -> None:
    here = update(tables.videos).where(_videos.id == video_id)
    connection.execute(here.values(state=state))


def _values(new: NewVideo) -> dict[str, Any]:
    metadata = msgspec.structs.asdict(new.metadata)
    del metadata["pix"]  # the ledger's
    modalities = {
        "visual": WAITING if new.has_video else ABSENT,
        "audio": WAITING if new.has_audio else ABSENT,
        "transcript": WAITING,
    }
    return {
        **metadata,
        "content_sha256": new.content_sha256,
        "source_name": new.source_name,
        "transcript_name": new.transcript_name,
        "state": "queued",
        "error": None,
        "duration_s": new.duration_s,
        "width": new.width,
        "height": new.height,
        "segment_count": 0,
        "modalities": msgspec.to_builtins(modalities),
        "model_version": None,
        "analysed_pix": None,
        "revision": 1,
        "indexed_revision": 0,
    }


def _to_video(row: RowMapping) -> Video:
    fields = {**row, **row["modalities"], "segments": row["segment_count"]}
    return msgspec.convert({name: fields[name] for name in Video.__struct_fields__}, Video)


def _encode_cursor(video: Video) -> str:
    return base64.urlsafe_b64encode(f"{video.created_at}~{video.id}".encode()).decode()


def _decode_cursor(cursor: str) -> tuple[str, str]:
    try:
        created_at, separator, video_id = base64.urlsafe_b64decode(cursor).decode().partition("~")
    except ValueError as error:  # neither base64 nor UTF-8
        raise InvalidRequest("after: this is not the `next` of a page of videos") from error
    if not separator:
        raise InvalidRequest("after: this is not the `next` of a page of videos")
    return created_at, video_id
