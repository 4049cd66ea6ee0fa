"""What a job must have done again that ended after a switch to another version of the index."""

import logging

from gateway.catalogue.claims import HEARING, ClaimedJob
from gateway.doors import Doors

log = logging.getLogger("pixserve.worker")


async def catch_up(doors: Doors, job: ClaimedJob) -> None:
    """Queue a video for the current version, where its job wrote to the one before it.

    Args:
        doors: that the job was done with.
        job: which has ended, or waits again.

    Raises:
        Unavailable: the catalogue does not answer.
    """
    named = await doors.threads.call(doors.catalogue.versions.current)
    if named in (None, doors.bundle.id) or job.kind in ("delete", HEARING):
        return
    states = await doors.threads.call(doors.catalogue.library.states, [job.video_id])
    if states.get(job.video_id) == "ready":
        log.info(
            "video %s was written to %s: it is due for %s", job.video_id, doors.bundle.id, named
        )
        await doors.threads.call(doors.catalogue.control.enqueue, [job.video_id], "reindex")
