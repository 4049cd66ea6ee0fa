"""PIX: a ledger of investments that is only ever appended to; a video's PIX is their sum."""

import secrets
from collections.abc import Callable

from sqlalchemy import Connection, func, insert, select, update

from gateway.catalogue import tables
from gateway.catalogue.clock import timestamp
from gateway.catalogue.database import Database
from gateway.catalogue.job_queue import enqueue, latest_job
from gateway.errors import Conflict, NotFound
from gateway.schemas import Investment, InvestmentRequest, JobState

UPLOAD_KEY = "upload:pix"  # the entry that came with the upload; no client's key has a colon
AGAIN_KEY = "upload:pix:{total}"  # what a later upload, after a failure, brought on top of it

Deeper = Callable[[float, int, int], bool]
"""Tells whether more PIX means more frames: duration in s, PIX analysed, PIX now."""

_videos = tables.videos.c
_investments = tables.investments.c


class Ledger:
    """The investments of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def invest(self, video_id: str, request: InvestmentRequest, deeper: Deeper) -> Investment:
        """Add PIX to a video once, and enqueue a deeper look where there is more to look at.

        The entry, the sum and the job are one transaction. A repeated key adds nothing.

        Raises:
            NotFound: there is no such video.
            Conflict: the key was used with another amount, or the video is being deleted.
        """
        with self._database.write() as connection:
            video = connection.execute(
                select(_videos.state, _videos.pix, _videos.duration_s, _videos.analysed_pix)
                .where(_videos.id == video_id)
                .with_for_update()
            ).one_or_none()
            if video is None:
                raise NotFound(f"there is no video {video_id}")
            if video.state == "deleting":
                raise Conflict(f"the video {video_id} is being deleted")
            repeated = _is_repeated(connection, video_id, request)
            entry_id, created_at = repeated or append(
                connection, video_id, request.key, request.pix
            )
            total = video.pix if repeated else video.pix + request.pix
            analysed = (video.duration_s, video.analysed_pix)
            job_id = _deepen(connection, video_id, analysed, total, deeper)
        return Investment(
            id=entry_id,
            video_id=video_id,
            pix=request.pix,
            key=request.key,
            total_pix=total,
            repeated=repeated is not None,
            job_id=job_id,
            created_at=created_at,
        )

    def deepen(self, video_id: str, deeper: Deeper) -> str | None:
        """Enqueue a deeper look where PIX came in while the video was being analysed."""
        with self._database.write() as connection:
            query = select(_videos.pix, _videos.duration_s, _videos.analysed_pix).where(
                _videos.id == video_id, _videos.state == "ready"
            )
            video = connection.execute(query).one_or_none()
            if video is None:
                return None
            analysed = (video.duration_s, video.analysed_pix)
            return _deepen(connection, video_id, analysed, video.pix, deeper)


def append(connection: Connection, video_id: str, key: str, pix: int) -> tuple[str, str]:
    """Add an entry and raise the video's sum; return the entry's id and time."""
    row = {
        "id": secrets.token_hex(8),
        "video_id": video_id,
        "key": key,
        "pix": pix,
        "created_at": timestamp(),
    }
    connection.execute(insert(tables.investments).values(row))
    raised = update(tables.videos).where(_videos.id == video_id).values(pix=_videos.pix + pix)
    connection.execute(raised)
    return str(row["id"]), str(row["created_at"])


def append_upload(connection: Connection, video_id: str, pix: int) -> None:
    """Enter an upload's PIX, as far as they are over what uploads brought before."""
    brought = select(func.coalesce(func.sum(_investments.pix), 0))
    query = brought.where(
        _investments.video_id == video_id, _investments.key.startswith(UPLOAD_KEY)
    )
    before = int(connection.execute(query).scalar_one())
    if pix > before:
        key = AGAIN_KEY.format(total=pix) if before else UPLOAD_KEY
        append(connection, video_id, key, pix - before)


def _is_repeated(
    connection: Connection, video_id: str, request: InvestmentRequest
) -> tuple[str, str] | None:
    """Return the id and time of the entry that has this key already."""
    query = select(_investments.id, _investments.pix, _investments.created_at).where(
        _investments.video_id == video_id, _investments.key == request.key
    )
    entry = connection.execute(query).one_or_none()
    if entry is None:
        return None
    if entry.pix != request.pix:
        raise Conflict(
            f"the key {request.key} was used for {entry.pix} PIX, this asks for {request.pix}: "
            "use a new key for a new investment"
        )
    return entry.id, entry.created_at


def _deepen(
    connection: Connection,
    video_id: str,
    analysed: tuple[float | None, int | None],
    total_pix: int,
    deeper: Deeper,
) -> str | None:
    duration_s, analysed_pix = analysed
    queued: tuple[JobState] = ("queued",)
    waiting = latest_job(connection, video_id, kinds=("ingest", "deepen"), states=queued)
    if waiting is not None:
        return waiting.id  # it has not begun, so it will see this PIX
    if duration_s is None or analysed_pix is None:
        return None  # the analysis runs; its end asks again
    if not deeper(duration_s, analysed_pix, total_pix):
        return None
    return enqueue(connection, video_id, "deepen").id
