"""The real stack for live tests: `pixserve up` on a folder of its own, `pixserve down` after."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from deploy.state import PartState, StackState, read_state
from gateway.client import Client
from gateway.schemas import Accepted, Job, VideoMetadata

PIXSERVE = Path(sys.executable).with_name("pixserve")
JOB_TIMEOUT_S = 120.0
# No test may depend on how quick a busy machine is; those of the deadline set their own.
PATIENT = {
    "PIXSERVE_SEARCH_DEADLINE_MS": "5000",
    "PIXSERVE_MEDIA_DEADLINE_MS": "10000",
    "PIXSERVE_CLIP_DEADLINE_MS": "30000",
}


@dataclass(frozen=True)
class LiveStack:
    """A running stack."""

    data_dir: Path
    url: str

    @property
    def state(self) -> StackState:
        state = read_state(self.data_dir / "run")
        assert state is not None
        return state

    def part(self, name: str) -> PartState:
        return self.state.part(name)

    def processes(self, name: str) -> list[psutil.Process]:
        """A part's process and all below it."""
        process = psutil.Process(self.part(name).pid)
        return [process, *process.children(recursive=True)]

    def ingest(self, path: Path, transcript: Path | None = None, **metadata: object) -> Accepted:
        """Upload a file and wait until its job has succeeded."""
        with Client(self.url) as client:
            accepted = client.upload(path, VideoMetadata(**metadata), transcript)
            job = client.wait(accepted.job_id, timeout_s=JOB_TIMEOUT_S)
        assert job.state == "succeeded", job
        return accepted

    def wait_for(self, job_id: str) -> Job:
        with Client(self.url) as client:
            return client.wait(job_id, timeout_s=JOB_TIMEOUT_S)


@contextmanager
def running_stack(data_dir: Path, port: int, *options: str) -> Iterator[LiveStack]:
    """Bring a stack up and take it down again; its logs are in `data_dir`/run/logs."""
    where = ["--data-dir", str(data_dir)]
    pixserve("up", "--detach", "--port", str(port), *where, *options)
    try:
        yield LiveStack(data_dir, f"http://127.0.0.1:{port}")
    finally:
        pixserve("down", *where)


def pixserve(*arguments: str, timeout_s: float = 180) -> str:
    """Run a command of pixserve and return what it printed."""
    done = subprocess.run(
        [str(PIXSERVE), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | PATIENT,
        check=False,
        timeout=timeout_s,
    )
    assert done.returncode == 0, f"pixserve {' '.join(arguments)}:\n{done.stdout}"
    return done.stdout
