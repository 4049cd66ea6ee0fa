"""The folder of one upload while it comes: locked, written and hashed, gone if it fails."""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from gateway.api.filenames import MEDIA_SUFFIXES, safe_suffix
from gateway.errors import InvalidRequest, MediaRefused, StorageFull, TooLarge
from gateway.threads import Threads

WRITE_BYTES = 1024**2  # written to the disk at once


@dataclass(frozen=True)
class Received:
    """A file that came whole."""

    path: Path
    content_sha256: str  # in hex


class FileField:
    """The part with the video: written and hashed as it comes, in another thread."""

    def __init__(self, folder: Path, limit_bytes: int, disk: Threads) -> None:
        self._folder = folder
        self._limit_bytes = limit_bytes
        self._disk = disk
        self._digest = hashlib.sha256()
        self._waiting = bytearray()
        self._file: BinaryIO | None = None
        self.size_bytes = 0
        self.path = folder  # the file's, once it began

    @property
    def content_sha256(self) -> str:
        """The hash of what came, in hex."""
        return self._digest.hexdigest()

    async def begin(self, filename: str | None) -> None:
        """Open the file; of the client's name only a known suffix is used."""
        self.path = self._folder / f"source{safe_suffix(filename or '', MEDIA_SUFFIXES, '.bin')}"
        self._file = await self._disk.call(self._open)

    async def write(self, data: bytes) -> None:
        """Take the next bytes; raises `TooLarge`, `StorageFull`."""
        self.size_bytes += len(data)
        if self.size_bytes > self._limit_bytes:
            raise TooLarge(f"file: over the limit of {self._limit_bytes:,} bytes")
        self._waiting += data
        if len(self._waiting) >= WRITE_BYTES:
            await self._disk.call(self._flush)

    async def end(self) -> None:
        """Write what is left and wait until the disk has it all."""
        await self._disk.call(self._finish)

    def close(self) -> None:
        """Close the file, complete or not."""
        if self._file is not None:
            self._file.close()

    def _open(self) -> BinaryIO:
        with room():
            return self.path.open("xb")

    def _flush(self) -> None:
        assert self._file is not None
        with room():
            self._file.write(self._waiting)
        self._digest.update(self._waiting)
        self._waiting.clear()

    def _finish(self) -> None:
        assert self._file is not None
        self._flush()
        with room():
            self._file.flush()
            os.fsync(self._file.fileno())
        self._file.close()


def locked_folder(parent: Path) -> tuple[Path, int]:
    """Make a folder of our own, locked as long as the returned descriptor is open."""
    with room():
        parent.mkdir(parents=True, exist_ok=True)
        folder = parent / secrets.token_hex(8)
        folder.mkdir()
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    return folder, lock


def copied(path: Path, folder: Path, limit_bytes: int) -> Received:
    """Copy and hash a file of this machine into an upload's folder.

    Raises:
        InvalidRequest: it cannot be read.
        MediaRefused: it is empty.
        TooLarge: it is over the limit.
        StorageFull: the disk is full.
    """
    target = folder / f"source{safe_suffix(path.name, MEDIA_SUFFIXES, '.bin')}"
    digest, size = hashlib.sha256(), 0
    try:
        source = path.open("rb")
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from error
    with source, room(), target.open("xb") as file:
        while data := source.read(WRITE_BYTES):
            size += len(data)
            if size > limit_bytes:
                raise TooLarge(f"{path}: over the limit of {limit_bytes:,} bytes")
            digest.update(data)
            file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if size == 0:
        raise MediaRefused("empty", f"{path}: the file has no bytes")
    return Received(target, digest.hexdigest())


def discard(folder: Path, lock: int) -> None:
    """Let go of an upload's folder; what was not moved to its place goes with it."""
    shutil.rmtree(folder, ignore_errors=True)
    os.close(lock)


def remove_unlocked(folder: Path) -> bool:
    """Remove a folder unless an upload that runs holds it; tell whether it went."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder)
    except BlockingIOError:  # an upload of another process is running
        return False
    finally:
        os.close(descriptor)
    return True


def is_locked(folder: Path) -> bool:
    """Tell whether an upload that runs holds a folder; one that is gone nobody holds."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def subfolders(parent: Path) -> Iterator[Path]:
    """Return the folders in a folder, none where it is not there."""
    if parent.is_dir():
        yield from (path for path in parent.iterdir() if path.is_dir())


def sync(folder: Path) -> None:
    """Make the names in a folder survive a power failure."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def room() -> Iterator[None]:
    """Raise `StorageFull` where the disk has no room."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise StorageFull("the disk is full: make room, then try again") from error
