import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from gateway.catalogue.catalogue import Catalogue
from gateway.settings import Settings
from tests.catalogues import new_video
from tests.gateways import NOWHERE, add_searchable, gateway_settings, start
from tests.media import make_video
from tests.owners import started
from tests.waiting import until


@contextmanager
def running_worker(settings: Settings) -> Iterator["subprocess.Popen[bytes]"]:
    mark = settings.data_path / "run" / "worker.ready"
    log = settings.data_path / "worker.log"
    with log.open("ab") as output, start(settings, "ingest.worker", output) as process:
        try:
            until(mark.exists)
            yield process
        finally:
            process.kill()


@pytest.fixture
def settings(tmp_path: Path, milvus_uri: str) -> Settings:
    return gateway_settings(tmp_path, milvus_uri, job_lease_s=1.0)


@pytest.fixture
def catalogue(settings: Settings) -> Iterator[Catalogue]:
    catalogue = Catalogue(settings.database_url)
    yield catalogue
    catalogue.close()


def test_the_worker_does_new_jobs_at_low_priority_and_ends_when_told(
    settings: Settings, catalogue: Catalogue
) -> None:
    add_searchable(settings, "doomed", ["some words"])
    mark = settings.data_path / "run" / "worker.ready"
    with running_worker(settings) as process:
        assert os.getpriority(os.PRIO_PROCESS, process.pid) >= 10
        assert mark.read_text() == f"{process.pid}\n"
        time.sleep(0.3)  # idle
        job = catalogue.library.begin_delete("doomed")
        until(lambda: catalogue.jobs.job(job.id).state == "succeeded")
        assert catalogue.library.known(["doomed"]) == set()

        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
        assert not mark.exists()


def test_an_idle_worker_hardly_uses_the_processor(settings: Settings) -> None:
    with running_worker(settings) as process:
        time.sleep(0.5)
        before_s = cpu_s(process.pid)
        time.sleep(2)
        assert cpu_s(process.pid) - before_s < 0.2


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_without_triton_a_job_stays_queued_and_says_why(
    settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    folder = settings.videos_dir / "waiting"
    folder.mkdir(parents=True)
    shutil.copy(make_video(tmp_path / "v.mp4", duration_s=2), folder / "source.mp4")
    with running_worker(settings):
        accepted = catalogue.library.add(new_video("waiting"))
        until(lambda: "triton" in catalogue.jobs.job(accepted.job_id).stage)
        assert catalogue.jobs.job(accepted.job_id).attempts == 0
        assert catalogue.library.video("waiting").state in ("queued", "processing")


def test_a_job_of_a_killed_worker_is_done_by_the_next_one(
    settings: Settings, catalogue: Catalogue
) -> None:
    add_searchable(settings, "doomed", ["some words"])
    job = catalogue.library.begin_delete("doomed")
    dead = catalogue.jobs.claim("killed", lease_s=1.0)
    assert dead is not None
    with running_worker(settings):
        until(lambda: catalogue.jobs.job(job.id).state == "succeeded")
    assert catalogue.jobs.job(job.id).attempts == 2


def test_the_job_of_a_worker_killed_on_this_machine_is_taken_over_before_its_lease_ends(
    settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    patient = msgspec.structs.replace(settings, job_lease_s=3_600.0)
    folder = settings.videos_dir / "held"
    folder.mkdir(parents=True)
    shutil.copy(make_video(tmp_path / "v.mp4", duration_s=2), folder / "source.mp4")
    accepted = catalogue.library.add(new_video("held"))
    with started() as (process, name):
        held = catalogue.jobs.claim_job(accepted.job_id, name, lease_s=3_600.0)
        assert held is not None
        with running_worker(patient):
            time.sleep(1.5)  # several looks for dead workers
            assert catalogue.jobs.hold(held, lease_s=3_600.0)  # it lives: its job stays its own
            process.kill()
            until(lambda: "triton" in catalogue.jobs.job(accepted.job_id).stage)
    assert not catalogue.jobs.finish(held)


def test_the_worker_looks_for_videos_to_be_heard_too(
    settings: Settings, catalogue: Catalogue, tmp_path: Path
) -> None:
    add_searchable(settings, "talk", ["some words"])
    folder = settings.videos_dir / "talk"
    folder.mkdir(parents=True)
    shutil.copy(make_video(tmp_path / "v.mp4", duration_s=2), folder / "source.mp4")
    job = catalogue.jobs.add("talk", "hear")
    with running_worker(settings):
        until(lambda: catalogue.jobs.job(job.id).state == "succeeded")
        jobs = catalogue.control.page(state=None, video_id="talk", limit=9)
    assert "transcribe" in {one.kind for one in jobs}  # which waits for Triton


def test_ended_jobs_of_long_ago_are_forgotten(settings: Settings, catalogue: Catalogue) -> None:
    add_searchable(settings, "kept", ["some words"])
    gone = catalogue.jobs.add("kept", "reindex")
    claimed = catalogue.jobs.claim_job(gone.id, "test", lease_s=60)
    assert claimed is not None
    catalogue.jobs.finish(claimed)
    with catalogue._database.write() as connection:
        connection.exec_driver_sql("update jobs set updated_at = '2001-01-01T00:00:00.000000Z'")
    with running_worker(settings):
        until(lambda: not catalogue.control.many([gone.id]))
    assert len(catalogue.control.page(state=None, video_id="kept", limit=9)) == 1


def test_without_milvus_the_worker_runs_and_waits(tmp_path: Path) -> None:
    settings = gateway_settings(tmp_path, f"http://{NOWHERE}")
    catalogue = Catalogue(settings.database_url)
    catalogue.library.add(new_video("v"))
    job = catalogue.library.begin_delete("v")
    with running_worker(settings) as process:
        until(lambda: catalogue.jobs.job(job.id).stage.startswith("waiting"))
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 0
    assert catalogue.library.video("v").state == "deleting"
    catalogue.close()
