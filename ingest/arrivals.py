"""Waits for jobs that other processes put into the catalogue, without asking it all the time."""

import asyncio
from pathlib import Path

from gateway.settings import Settings

WATCH_S = 0.02  # between looks at the state of SQLite's log
ASK_S = 0.5  # between questions at most: jobs also fall due by the clock
POLL_S = 0.1  # between questions to another database

State = tuple[int, int] | None  # of a file: when it was changed, and its size; None: not there


class Arrivals:
    """Tells when it is worth asking the catalogue for jobs.

    Every commit to SQLite changes the log beside it (`-wal`). To look at that file costs
    microseconds, a question to the catalogue a hundred times as much.

    Args:
        log: that file; None for another database, which is asked every POLL_S.
        ask_s: a wait takes this long at most.
    """

    def __init__(self, log: Path | None, ask_s: float = ASK_S) -> None:
        self.log = log
        self._ask_s = ask_s
        self._noted: State = None

    @staticmethod
    def of(settings: Settings) -> "Arrivals":
        """Watch the catalogue of these settings."""
        own = settings.data_path / "catalogue.db-wal"
        return Arrivals(None if settings.database else own)

    def note(self) -> None:
        """Remember the state; call it before the catalogue is asked, so that nothing is missed."""
        self._noted = self._state()

    async def wait(self) -> None:
        """Wait until something was committed since `note`, or it is time to ask anyway."""
        if self.log is None:
            await asyncio.sleep(min(POLL_S, self._ask_s))
            return
        loop = asyncio.get_running_loop()
        end_s = loop.time() + self._ask_s
        while self._state() == self._noted and loop.time() < end_s:  # noqa: ASYNC110 (a file)
            await asyncio.sleep(WATCH_S)

    def _state(self) -> State:
        try:
            found = self.log.stat() if self.log is not None else None
        except OSError:
            return None
        return (found.st_mtime_ns, found.st_size) if found is not None else None
