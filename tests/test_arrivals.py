import asyncio
from pathlib import Path

import pytest

from gateway.catalogue.catalogue import Catalogue
from gateway.settings import Settings
from ingest.arrivals import Arrivals

NEVER_S = 3_600.0
PATIENCE_S = 30.0  # on a busy machine


@pytest.mark.anyio
async def test_a_commit_ends_the_wait(tmp_path: Path) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'catalogue.db'}")
    arrivals = Arrivals(tmp_path / "catalogue.db-wal", NEVER_S)
    arrivals.note()
    waiting = asyncio.create_task(arrivals.wait())
    await asyncio.sleep(0)
    assert not waiting.done()
    catalogue.control.enqueue(["v1"], "reindex")
    await asyncio.wait_for(waiting, PATIENCE_S)
    catalogue.close()


@pytest.mark.anyio
async def test_what_was_committed_between_note_and_wait_is_not_missed(tmp_path: Path) -> None:
    log = tmp_path / "catalogue.db-wal"
    arrivals = Arrivals(log, NEVER_S)
    arrivals.note()
    log.write_bytes(b"a commit")
    await asyncio.wait_for(arrivals.wait(), PATIENCE_S)


@pytest.mark.anyio
async def test_a_wait_without_a_commit_ends_for_jobs_that_fall_due_by_the_clock(
    tmp_path: Path,
) -> None:
    for log in (tmp_path / "catalogue.db-wal", None):
        arrivals = Arrivals(log, 0.0)
        arrivals.note()
        await asyncio.wait_for(arrivals.wait(), PATIENCE_S)


def test_only_the_data_folders_own_catalogue_is_watched(tmp_path: Path) -> None:
    wal = tmp_path / "catalogue.db-wal"
    own = Arrivals.of(Settings(data_dir=str(tmp_path)))
    other = Arrivals.of(Settings(data_dir=str(tmp_path), database="postgresql://db/pixserve"))
    wal.write_bytes(b"")
    assert (own.log, other.log) == (wal, None)
