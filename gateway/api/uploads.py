"""Uploads: a stream of bytes to a probed file in the video's folder, a row and a job.

Bytes go to `uploads/<random>/` while they come; the folder is locked, and goes when the upload
fails. A complete one is probed in the sandbox, then the folder is renamed to `videos/<id>/`, then
the catalogue gets row and job in one transaction. What a crash leaves between these steps is a
folder that no row names and nobody locks: `sweep` removes it at the next start.
"""

import asyncio
import base64
import hashlib
import os
import shutil
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gateway.api.filenames import TRANSCRIPT_SUFFIXES, safe_suffix
from gateway.api.forms import Field, MemoryField, read_form
from gateway.api.incoming import (
    FileField,
    Received,
    copied,
    discard,
    locked_folder,
    remove_unlocked,
    room,
    subfolders,
    sync,
)
from gateway.catalogue.catalogue import Catalogue
from gateway.catalogue.library import NewVideo
from gateway.errors import (
    Conflict,
    InvalidRequest,
    MediaRefused,
    Overloaded,
    StorageFull,
    TooLarge,
)
from gateway.schemas import Accepted, VideoMetadata
from gateway.settings import Settings
from gateway.threads import Threads
from ingest.media import MediaInfo
from ingest.probe import probe, read_packets
from ingest.transcripts.subtitles import read_sidecar

MAX_UPLOADS = 16  # at the same time
MAX_METADATA_BYTES = 64 * 1024
MAX_TRANSCRIPT_BYTES = 5 * 1024**2
MAX_OVERHEAD_BYTES = 1024**2  # boundaries and headers of the form
IDLE_S = 60.0  # without a byte, an upload is given up …
LEAST_BYTES_PER_S = 4_096  # … and so it is when it comes more slowly than this …
LEAST_OVER_S = 60.0  # … over so long a wait for its bytes
VIDEO_ID_CHARS = 16


@dataclass(frozen=True)
class Sidecar:
    """A transcript as it was sent."""

    filename: str  # of which only the suffix counts
    data: bytes


def video_id(creator_id: str, content_sha256: str) -> str:
    """Return the id of a creator's video: the same content twice is one video."""
    digest = hashlib.sha256(f"{creator_id}\0{content_sha256}".encode()).digest()
    return base64.b32encode(digest).decode()[:VIDEO_ID_CHARS].lower()


class Uploads:
    """Takes in the uploads of one process."""

    def __init__(self, settings: Settings, catalogue: Catalogue, disk: Threads) -> None:
        self._settings = settings
        self._library = catalogue.library
        self._disk = disk
        self._running = 0
        self._committing = threading.Lock()  # two uploads of one content end one after the other

    async def accept(
        self, chunks: AsyncIterator[bytes], content_type: str, content_length: int | None
    ) -> Accepted:
        """Take one upload in, from its first byte to its job.

        Args:
            chunks: the body, a multipart form of `file`, `metadata` and `transcript`.
            content_type: the request's header.
            content_length: the request's header, None where it has none.

        Raises:
            InvalidRequest: the form, the metadata or the transcript is wrong, or the body ended
                early.
            TooLarge: a part is over its limit.
            MediaRefused: the file is none that can be analysed; nothing of it is left.
            Conflict: the same video is being deleted.
            Overloaded: too many uploads run.
            StorageFull: the disk is full.
        """
        limit_bytes = self._settings.max_upload_bytes
        limit_body_bytes = limit_bytes + MAX_TRANSCRIPT_BYTES + MAX_OVERHEAD_BYTES
        if (content_length or 0) > limit_body_bytes:
            raise TooLarge(f"file: over the limit of {limit_bytes:,} bytes")
        with self._place():
            folder, lock = await self._disk.call(locked_folder, self._settings.uploads_dir)
            file = FileField(folder, limit_bytes, self._disk)
            metadata = MemoryField("metadata", MAX_METADATA_BYTES)
            transcript = MemoryField("transcript", MAX_TRANSCRIPT_BYTES)
            fields: dict[str, Field] = {
                "file": file,
                "metadata": metadata,
                "transcript": transcript,
            }
            try:
                await read_form(_awaited(chunks), content_type, fields, limit_body_bytes)
                return await self._disk.call(self._take_form, file, metadata, transcript)
            finally:
                file.close()
                await asyncio.shield(self._disk.call(discard, folder, lock))

    def sweep(self) -> int:
        """Remove what crashed uploads left behind; return how many folders went."""
        folders = list(subfolders(self._settings.uploads_dir))
        videos = {folder.name: folder for folder in subfolders(self._settings.videos_dir)}
        known = self._library.known(videos.keys())
        folders += [folder for name, folder in videos.items() if name not in known]
        return sum(remove_unlocked(folder) for folder in folders)

    def take_file(
        self, path: Path, metadata: VideoMetadata, transcript: Path | None = None
    ) -> Accepted:
        """Take in a file of this machine as if it had been uploaded; it is copied.

        Args:
            path: the file.
            metadata: title, creator, PIX and so on.
            transcript: an .srt or .vtt file.

        Raises:
            InvalidRequest: the file or its transcript cannot be read, or the transcript is wrong.
            TooLarge, MediaRefused, Conflict, StorageFull: as `accept` raises them.
        """
        folder, lock = locked_folder(self._settings.uploads_dir)
        try:
            file = copied(path, folder, self._settings.max_upload_bytes)
            sidecar = None if transcript is None else read_sidecar_file(transcript)
            return self._take(file, metadata, sidecar)
        finally:
            discard(folder, lock)

    def _take_form(
        self, file: FileField, metadata: MemoryField, transcript: MemoryField
    ) -> Accepted:
        """Check a complete upload, move it to its place and enter it."""
        if file.size_bytes == 0:
            raise MediaRefused("empty", "file: there is none in the form, or it has no bytes")
        told = _metadata(metadata.data)
        sidecar = Sidecar(transcript.filename, transcript.data) if transcript.given else None
        return self._take(Received(file.path, file.content_sha256), told, sidecar)

    def _take(self, file: Received, told: VideoMetadata, transcript: Sidecar | None) -> Accepted:
        new_id = video_id(told.creator_id, file.content_sha256)
        known = self._library.existing(new_id)
        if known is not None:
            return known
        transcript_name = _store_transcript(transcript, file.path.parent)
        info = probe(file.path, max_duration_s=self._settings.max_duration_s)
        if info.video is not None:
            read_packets(file.path, info)  # tells a file that ends too early from a whole one
        new = _new_video(new_id, file, told, transcript_name, info)
        return self._commit(file.path.parent, new)

    def _commit(self, folder: Path, new: NewVideo) -> Accepted:
        with self._committing:
            known = self._library.existing(new.id)
            if known is not None:
                return known
            target = self._settings.videos_dir / new.id
            with room():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)  # of an upload that crashed or failed
                sync(folder)
                folder.rename(target)
                sync(target.parent)
            try:
                return self._library.add(new)
            except (StorageFull, Conflict):  # nothing was entered
                shutil.rmtree(target, ignore_errors=True)
                raise

    @contextmanager
    def _place(self) -> Iterator[None]:
        if self._running >= MAX_UPLOADS:
            raise Overloaded(f"{MAX_UPLOADS} uploads are running: retry later")
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


async def _awaited(chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass chunks on, which must come in time and not too slowly: each upload holds a place.

    Only the time that is spent waiting for the client counts, not that of our own disk.
    """
    clock = asyncio.get_running_loop().time
    waited_s, came_bytes = 0.0, 0
    try:
        while True:
            begin_s = clock()
            async with asyncio.timeout(IDLE_S):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            waited_s, came_bytes = waited_s + clock() - begin_s, came_bytes + len(chunk)
            if waited_s >= LEAST_OVER_S:
                _require_rate(came_bytes, waited_s)
                waited_s, came_bytes = 0.0, 0
            yield chunk
    except TimeoutError as error:
        raise InvalidRequest(f"no byte came for {IDLE_S:g} s: the upload was given up") from error


def _require_rate(came_bytes: int, waited_s: float) -> None:
    """Refuse an upload that comes in drops."""
    if came_bytes < LEAST_BYTES_PER_S * waited_s:
        raise InvalidRequest(
            f"{came_bytes:,} bytes came in {waited_s:.0f} s, at least {LEAST_BYTES_PER_S:,} a "
            "second are expected: the upload was given up, send it over a better connection"
        )


def _metadata(data: bytes) -> VideoMetadata:
    try:
        return msgspec.json.decode(data or b"{}", type=VideoMetadata)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"metadata: {error}") from error


def read_sidecar_file(path: Path) -> Sidecar:
    """Read a transcript of this machine; raises `InvalidRequest`, `TooLarge`."""
    try:
        if path.stat().st_size > MAX_TRANSCRIPT_BYTES:
            raise TooLarge(f"{path}: over the limit of {MAX_TRANSCRIPT_BYTES:,} bytes")
        return Sidecar(path.name, path.read_bytes())
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from error


def _store_transcript(transcript: Sidecar | None, folder: Path) -> str | None:
    """Check a sidecar and keep it beside the video; return its name."""
    if transcript is None:
        return None
    default = (
        ".vtt" if transcript.data.removeprefix(b"\xef\xbb\xbf").startswith(b"WEBVTT") else ".srt"
    )
    name = f"transcript{safe_suffix(transcript.filename, TRANSCRIPT_SUFFIXES, default)}"
    read_sidecar(transcript.data, name)
    with room(), (folder / name).open("xb") as file:
        file.write(transcript.data)
        file.flush()
        os.fsync(file.fileno())
    return name


def _new_video(
    new_id: str, file: Received, metadata: VideoMetadata, transcript: str | None, info: MediaInfo
) -> NewVideo:
    return NewVideo(
        id=new_id,
        content_sha256=file.content_sha256,
        source_name=file.path.name,
        transcript_name=transcript,
        metadata=metadata,
        duration_s=info.duration_s,
        width=info.video.width if info.video else None,
        height=info.video.height if info.video else None,
        has_video=info.video is not None,
        has_audio=info.audio is not None,
    )
