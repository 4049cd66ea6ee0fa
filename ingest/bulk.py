"""Takes many files in without an upload: catalogue, index and files are written by one process.

Each file becomes a job as an upload does, which this process claims and does as a worker would,
but for the analysis, which an engine does. So all that is true of jobs is true here: a crash is
resumed by the stack's own worker, nothing is done twice, and a file that is there already is told
so. Back-pressure comes from the lanes: a file is taken in when another one is in the index.
"""

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from gateway.api.uploads import Uploads
from gateway.catalogue.job_control import ENDED
from gateway.doors import Doors
from gateway.errors import PixserveError
from gateway.schemas import Accepted, Job
from ingest.bulk_work import Work, analysis_of
from ingest.catch_up import catch_up
from ingest.ends import noted, run_folder
from ingest.engines import Engine
from ingest.jobs import run
from ingest.manifest import Item
from ingest.owners import owner_name
from ingest.pipeline import Analysis, AnalysisRequest
from ingest.progress import Progress
from ingest.tasks import Analyser
from ingest.turns import Turns

REST_S = 0.25  # between looks at a job that rests, or that another worker has


@dataclass(frozen=True)
class Taken:
    """What became of one file."""

    path: Path
    video_id: str  # "" where it was refused before it had one
    state: str  # ready, existing or failed
    error: str


async def bulk_ingest(
    doors: Doors,
    items: Iterable[Item],
    engine: Engine,
    done: Callable[[Taken], None],
) -> None:
    """Take all items in and analyse them; ends when each is searchable or refused.

    Args:
        doors: of the stack.
        items: read as they are needed.
        engine: does the analyses, and says how many files may be begun at once.
        done: told what became of each file, in the order in which they end.

    Raises:
        InvalidRequest: a row of a manifest is wrong; what was begun is finished first.
        Unavailable: the catalogue does not answer.
    """
    bulk = _Bulk(doors, engine, Turns(engine.lanes))
    waiting, reading = iter(items), asyncio.Lock()

    async def next_item() -> Item | None:
        async with reading:  # a manifest is read by one lane at a time
            return await doors.disk.call(next, waiting, None)

    async def lane() -> None:
        while (item := await next_item()) is not None:
            done(await bulk.take(item))

    lanes = (lane() for _ in range(engine.lanes))
    with noted(run_folder(doors.settings)):  # so that a kill of this process costs its jobs no try
        ends = await asyncio.gather(*lanes, return_exceptions=True)
    for error in ends:
        if error is not None:
            raise error


class _Bulk:
    def __init__(self, doors: Doors, engine: Engine, turns: Turns) -> None:
        self._doors = doors
        self._turns = turns
        self._uploads = Uploads(doors.settings, doors.catalogue, doors.disk)
        self._analyser = _through(doors, engine)

    async def take(self, item: Item) -> Taken:
        """Take one file in, and wait until its job has ended."""
        try:
            accepted = await self._doors.disk.call(
                self._uploads.take_file, item.path, item.metadata, item.transcript
            )
        except PixserveError as error:
            reason = getattr(error, "reason", error.kind)
            return Taken(item.path, "", "failed", f"{reason}: {error.message}")
        job = await self._ended(accepted)
        if job.state != "succeeded":
            return Taken(item.path, accepted.video_id, "failed", job.error or job.state)
        state = "existing" if accepted.existing else "ready"
        return Taken(item.path, accepted.video_id, state, "")

    async def _ended(self, accepted: Accepted) -> Job:
        """Do a job as soon as nobody else does it; return it when it has ended."""
        call, jobs = self._doors.threads.call, self._doors.catalogue.jobs
        lease_s, name = self._doors.settings.job_lease_s, owner_name("bulk")
        while True:
            claimed = await call(jobs.claim_job, accepted.job_id, name, lease_s=lease_s)
            if claimed is not None:
                await run(self._doors, claimed, self._turns, self._analyser)
                await catch_up(self._doors, claimed)
            job = await call(jobs.job, accepted.job_id)
            if job.state in ENDED:
                return job
            await asyncio.sleep(REST_S)


def _through(doors: Doors, engine: Engine) -> Analyser:
    """Return what has an engine do the work between a file and what was found."""

    async def analyse(path: Path, request: AnalysisRequest, tell: Progress) -> Analysis:
        tell("analyse", 10)  # how far it is, the engine does not say
        work = Work(path, request, doors.settings)
        return analysis_of(await engine.analysed(work))

    return analyse
