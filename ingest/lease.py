"""A worker's hold on one job: prolonged while it works, with its progress, and lost when stolen."""

import asyncio
import logging

from gateway.catalogue.claims import HEARING, ClaimedJob
from gateway.doors import Doors
from gateway.errors import PixserveError

TELL_S = 0.5  # progress reaches the catalogue this often at most
RENEW_SHARE = 0.3  # of the lease is over when it is prolonged

log = logging.getLogger("pixserve.worker")


class Lease:
    """Keeps one job while it is worked on.

    Args:
        doors: whose catalogue has the job.
        job: the job, claimed.
    """

    def __init__(self, doors: Doors, job: ClaimedJob) -> None:
        self._doors = doors
        self._job = job
        self._told: tuple[str, int] | None = None
        self._stage = "starting"
        self._percent = 0
        self.lost = False
        self._is_committing = False

    def commit(self) -> None:
        """Note that results are being written: from here on a request to stop comes too late."""
        self._is_committing = True

    def tell(self, stage: str, percent: float) -> None:
        """Note how far the job is; called as often as anything advances, from any thread."""
        self._stage = stage
        self._percent = max(0, min(99, int(percent)))  # 100 is for what has ended

    async def keep(self, work: "asyncio.Task[None]") -> None:
        """Prolong the lease until cancelled; cancel `work` where the job is not ours any more."""
        lease_s = self._doors.settings.job_lease_s
        clock = asyncio.get_running_loop().time
        renewed_s = clock()
        while True:
            await asyncio.sleep(min(TELL_S, lease_s * RENEW_SHARE))
            now = (self._stage, self._percent)
            if now == self._told and clock() - renewed_s < lease_s * RENEW_SHARE:
                continue
            try:
                held = await self._extend(now)
            except PixserveError as error:
                log.warning("cannot prolong the lease of job %s: %s", self._job.id, error)
                held = clock() - renewed_s < lease_s
            else:
                renewed_s, self._told = clock(), now
            if not held:
                self.lost = True
                work.cancel()
                return

    async def _extend(self, now: tuple[str, int]) -> bool:
        stage, percent = now
        catalogue, call = self._doors.catalogue, self._doors.threads.call
        held = await call(
            catalogue.jobs.extend,
            self._job,
            lease_s=self._doors.settings.job_lease_s,
            stage=stage,
            percent=percent,
        )
        if not held and self._is_committing:
            lease_s = self._doors.settings.job_lease_s
            held = await call(catalogue.jobs.hold, self._job, lease_s=lease_s)
        if held and self._job.kind == "ingest":
            await call(catalogue.analyses.progress, self._job.video_id, percent)
        if held and self._job.kind == HEARING:
            await call(catalogue.analyses.heard, self._job.video_id, percent)
        return held
