from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.catalogue import Catalogue
from gateway.catalogue.claims import ClaimedJob
from gateway.catalogue.job_queue import BACKOFF_MAX_S, backoff_s
from gateway.errors import NotFound
from tests.catalogues import new_video


def claim(catalogue: Catalogue, worker: str = "w", lease_s: float = 60.0) -> ClaimedJob | None:
    return catalogue.jobs.claim(worker, lease_s=lease_s)


def claimed(catalogue: Catalogue, worker: str = "w", lease_s: float = 60.0) -> ClaimedJob:
    job = claim(catalogue, worker, lease_s)
    assert job is not None
    return job


def test_jobs_are_claimed_once_and_the_oldest_first(catalogue: Catalogue) -> None:
    for number in range(3):
        catalogue.library.add(new_video(f"v{number}"))

    assert [claimed(catalogue).video_id for _ in range(3)] == ["v0", "v1", "v2"]
    assert claim(catalogue) is None
    assert not catalogue.jobs.is_due()


def test_many_workers_share_a_queue_without_doing_anything_twice(catalogue: Catalogue) -> None:
    for number in range(24):
        catalogue.library.add(new_video(f"v{number}"))

    def work(worker: int) -> list[str]:
        done = []
        while catalogue.jobs.is_due():
            job = claim(catalogue, f"w{worker}")
            if job is not None:
                assert catalogue.jobs.finish(job)
                done.append(job.video_id)
        return done

    with ThreadPoolExecutor(6) as pool:
        done = Counter(video for videos in pool.map(work, range(6)) for video in videos)

    assert done == Counter({f"v{number}": 1 for number in range(24)})


def test_hearing_is_a_lane_of_its_own_beside_other_work_on_a_video(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    catalogue.control.enqueue(["v", "v"], "hear")  # once
    ingest = claimed(catalogue)
    assert catalogue.jobs.is_due("hearing")
    hearing = catalogue.jobs.claim("ears", lease_s=60, lane="hearing")
    assert hearing is not None
    assert (ingest.kind, hearing.kind) == ("ingest", "hear")
    catalogue.control.enqueue(["v"], "hear")  # which runs: nothing to add
    assert catalogue.jobs.claim("ears", lease_s=60, lane="hearing") is None
    assert catalogue.jobs.finish(ingest)
    assert not catalogue.jobs.is_running("v")

    catalogue.library.begin_delete("v")
    assert claimed(catalogue).kind == "delete"
    assert not catalogue.jobs.extend(hearing, lease_s=60)


def test_a_hearing_whose_worker_died_is_claimed_again_by_its_lane_alone(
    catalogue: Catalogue,
) -> None:
    catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    catalogue.jobs.add("v", "hear")
    assert catalogue.jobs.claim("ears", lease_s=-1, lane="hearing") is not None
    assert claim(catalogue) is None
    again = catalogue.jobs.claim("ears", lease_s=60, lane="hearing")
    assert again is not None
    assert again.attempts == 2


def test_one_video_is_worked_on_by_one_worker_at_a_time(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    job = claimed(catalogue)
    catalogue.library.begin_delete("v")

    assert claim(catalogue, "other") is None
    assert not catalogue.jobs.extend(job, lease_s=60)  # the worker learns that it must stop
    assert catalogue.jobs.cancel(job)
    assert claimed(catalogue, "other").kind == "delete"


def test_a_deletion_cancels_what_is_queued(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    catalogue.library.begin_delete("v")

    assert catalogue.jobs.job(accepted.job_id).state == "cancelled"
    assert claimed(catalogue).kind == "delete"
    assert claim(catalogue) is None


def test_a_job_of_a_dead_worker_is_claimed_again_when_its_lease_ends(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    dead = claimed(catalogue, "dead", lease_s=-1)

    job = claimed(catalogue, "living")

    assert (job.id, job.attempts) == (dead.id, 2)
    assert not catalogue.jobs.extend(dead, lease_s=60)
    assert not catalogue.jobs.finish(dead)
    assert not catalogue.jobs.fail(dead, "late")
    assert catalogue.jobs.finish(job)


def test_a_cancelled_job_of_a_dead_worker_is_not_done_again(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    dead = claimed(catalogue, "dead", lease_s=-1)
    catalogue.library.begin_delete("v")

    assert claimed(catalogue).kind == "delete"
    assert catalogue.jobs.job(dead.id).state == "cancelled"


def test_a_job_that_kills_its_workers_tells_how_often_it_was_begun(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    attempts = [claimed(catalogue, lease_s=-1).attempts for _ in range(3)]
    assert attempts == [1, 2, 3]


def test_a_job_that_fails_takes_its_video_along_in_one_step(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    dead = claimed(catalogue, "dead", lease_s=-1)
    job = claimed(catalogue, "alive")

    assert not catalogue.jobs.fail(dead, "late")
    assert catalogue.library.video("v").state == "queued"
    assert catalogue.jobs.fail(job, "too_long: no")
    video = catalogue.library.video("v")
    assert (video.state, video.error) == ("failed", "too_long: no")
    assert video.visual.state == "failed"
    assert catalogue.jobs.job(accepted.job_id).error == "too_long: no"


def test_waiting_for_another_part_does_not_count_as_a_try(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    job = claimed(catalogue)

    assert catalogue.jobs.put_back(job, stage="waiting: milvus", counted=False, delay=False)

    assert catalogue.jobs.job(job.id).stage == "waiting: milvus"
    again = claimed(catalogue)
    assert (again.id, again.attempts) == (job.id, 1)
    assert catalogue.jobs.job(job.id).stage == "starting"


def test_a_job_that_is_put_back_rests_first(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    assert catalogue.jobs.put_back(claimed(catalogue), stage="later", counted=True)

    assert claim(catalogue) is None
    assert not catalogue.jobs.is_due()


def test_progress_is_told_and_keeps_the_lease(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    job = claimed(catalogue, lease_s=-1)

    assert catalogue.jobs.extend(job, lease_s=60, stage="embed", percent=40)

    assert claim(catalogue, "other") is None
    told = catalogue.jobs.job(job.id)
    assert (told.state, told.stage, told.percent) == ("running", "embed", 40)
    assert catalogue.jobs.is_running("v")


def test_ended_jobs_tell_how_they_ended(catalogue: Catalogue) -> None:
    first = catalogue.library.add(new_video("a"))
    second = catalogue.library.add(new_video("b"))
    assert catalogue.jobs.finish(claimed(catalogue))
    assert catalogue.jobs.fail(claimed(catalogue), "x" * 5_000)

    assert catalogue.jobs.job(first.job_id).percent == 100
    assert catalogue.jobs.job(second.job_id).error == "x" * 1_000
    assert catalogue.jobs.counts() == {("ingest", "succeeded"): 1, ("ingest", "failed"): 1}


def test_an_unknown_job_is_not_found(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound):
        catalogue.jobs.job("nothing")


@given(st.integers(min_value=0, max_value=10_000))
def test_rests_grow_up_to_a_bound(waits: int) -> None:
    assert 0 < backoff_s(waits) <= backoff_s(waits + 1) <= BACKOFF_MAX_S
