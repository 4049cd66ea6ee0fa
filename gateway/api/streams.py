"""Files that are being sent to clients, piece by piece."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

from gateway.api.ranges import Span
from gateway.doors import Doors
from gateway.errors import Overloaded

CHUNK_BYTES = 256 * 1024  # of a file, read and sent at once
MAX_FILE_STREAMS = 128  # files that one gateway sends at the same time


class FileStreams:
    """Counts the files that are being sent; a slow reader holds one of a bounded number."""

    def __init__(self) -> None:
        self._running = 0

    async def stream(self, doors: Doors, path: Path, span: Span) -> AsyncIterator[bytes]:
        """Yield bytes of a file, read in another thread."""
        self._running += 1
        descriptor = -1
        try:
            descriptor = await doors.disk.call(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
            at = span.begin
            while at < span.end:
                wanted = min(CHUNK_BYTES, span.end - at)
                data = await doors.disk.call(os.pread, descriptor, wanted, at)
                if not data:  # removed or cut meanwhile: the client sees that bytes are missing
                    return
                yield data
                at += len(data)
        finally:
            self._running -= 1
            if descriptor >= 0:
                os.close(descriptor)

    def require_place(self) -> None:
        """Raise `Overloaded` where no more files may be sent."""
        if self._running >= MAX_FILE_STREAMS:
            raise Overloaded(f"{MAX_FILE_STREAMS} files are being sent: retry later")
