import pytest

from gateway.catalogue.catalogue import Catalogue
from gateway.catalogue.claims import ClaimedJob
from gateway.catalogue.job_queue import INGEST_CANCELLED
from gateway.errors import Conflict, NotFound
from tests.catalogues import findings, new_video


def claimed(catalogue: Catalogue, worker: str = "w", lease_s: float = 60.0) -> ClaimedJob:
    job = catalogue.jobs.claim(worker, lease_s=lease_s)
    assert job is not None
    return job


def age(catalogue: Catalogue) -> None:
    """Let all jobs have ended long ago."""
    with catalogue._database.write() as connection:
        connection.exec_driver_sql("update jobs set updated_at = '2001-01-01T00:00:00.000000Z'")


# ---- priority


def test_the_most_urgent_job_comes_first_then_the_oldest(catalogue: Catalogue) -> None:
    accepted = [catalogue.library.add(new_video(f"v{number}")) for number in range(4)]
    assert catalogue.control.set_priority(accepted[2].job_id, 5).priority == 5
    catalogue.control.set_priority(accepted[0].job_id, -5)

    assert [claimed(catalogue).video_id for _ in range(4)] == ["v2", "v1", "v3", "v0"]


def test_an_abandoned_job_comes_before_urgent_ones(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("abandoned"))
    claimed(catalogue, lease_s=-1)
    urgent = catalogue.library.add(new_video("urgent"))
    catalogue.control.set_priority(urgent.job_id, 100)

    assert claimed(catalogue).video_id == "abandoned"


def test_the_priority_of_an_ended_job_cannot_change(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    with pytest.raises(Conflict, match="has ended"):
        catalogue.control.set_priority(accepted.job_id, 1)
    with pytest.raises(NotFound):
        catalogue.control.set_priority("nothing", 1)


# ---- cancelling


def test_a_waiting_ingest_is_ended_by_the_worker_that_claims_it(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    assert catalogue.control.cancel(accepted.job_id).state == "queued"

    job = claimed(catalogue)
    assert job.cancelled
    assert not catalogue.jobs.extend(job, lease_s=60)
    assert catalogue.jobs.hold(job, lease_s=60)
    assert catalogue.jobs.cancel(job)

    video = catalogue.library.video("v")
    assert (video.state, video.error) == ("failed", INGEST_CANCELLED)
    assert catalogue.jobs.job(accepted.job_id).state == "cancelled"
    assert catalogue.control.cancel(accepted.job_id).state == "cancelled"  # twice is harmless


def test_a_job_that_rests_is_cancelled_at_once(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    catalogue.jobs.put_back(claimed(catalogue), stage="waiting", counted=False)
    assert not catalogue.jobs.is_due()

    catalogue.control.cancel(accepted.job_id)
    assert claimed(catalogue).cancelled


def test_a_waiting_reindex_is_cancelled_without_a_worker(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    catalogue.analyses.store("v", findings("v"))
    job = catalogue.jobs.add("v", "reindex")

    assert catalogue.control.cancel(job.id).state == "cancelled"
    assert catalogue.jobs.claim("w", lease_s=60) is None
    assert catalogue.library.video("v").state == "ready"


def test_cancelling_the_next_analysis_of_a_searchable_video_leaves_it(
    catalogue: Catalogue,
) -> None:
    catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    catalogue.analyses.store("v", findings("v"))
    again = catalogue.jobs.add("v", "ingest")
    catalogue.control.cancel(again.id)

    assert catalogue.jobs.cancel(claimed(catalogue))
    assert catalogue.library.video("v").state == "ready"


def test_a_cancelled_ingest_of_a_dead_worker_is_claimed_to_be_cleared_away(
    catalogue: Catalogue,
) -> None:
    accepted = catalogue.library.add(new_video("v"))
    claimed(catalogue, lease_s=-1)
    catalogue.control.cancel(accepted.job_id)

    job = claimed(catalogue)
    assert (job.id, job.cancelled) == (accepted.job_id, True)


def test_what_has_ended_or_deletes_cannot_be_cancelled(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    with pytest.raises(Conflict, match="nothing to stop"):
        catalogue.control.cancel(accepted.job_id)
    with pytest.raises(Conflict, match="cannot be cancelled"):
        catalogue.control.cancel(catalogue.library.begin_delete("v").id)
    with pytest.raises(NotFound):
        catalogue.control.cancel("nothing")


# ---- dead workers


def test_jobs_of_dead_workers_are_free_before_their_leases_end(catalogue: Catalogue) -> None:
    for number in range(2):
        catalogue.library.add(new_video(f"v{number}"))
    dead, alive = claimed(catalogue, "dead"), claimed(catalogue, "alive")

    assert catalogue.control.free_dead(lambda name: name == "dead", lambda _: False) == 1

    job = claimed(catalogue, "next")
    assert (job.id, job.attempts, job.kills) == (dead.id, 2, 0)
    assert not catalogue.jobs.finish(dead)
    assert catalogue.jobs.finish(alive)


def test_a_worker_that_was_killed_from_outside_costs_its_job_no_try(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    for kills in range(1, 8):
        dead = claimed(catalogue, "dead")
        assert catalogue.control.free_dead(lambda name: name == "dead", lambda _: True) == 1
        assert catalogue.control.free_dead(lambda name: name == "dead", lambda _: True) == 0
        assert not catalogue.jobs.extend(dead, lease_s=60)
        job = claimed(catalogue, "next")
        assert (job.attempts, job.kills, job.is_first_try) == (1, kills, False)
        assert catalogue.jobs.put_back(job, stage="interrupted", counted=False, delay=False)


def test_a_dead_worker_is_judged_by_its_end_although_its_lease_ended(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    claimed(catalogue, "dead", lease_s=-1)

    assert catalogue.control.free_dead(lambda name: name == "dead", lambda _: True) == 1
    assert claimed(catalogue).attempts == 1


# ---- many jobs


def test_a_job_is_claimed_by_its_id_once(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("v"))
    job = catalogue.jobs.claim_job(accepted.job_id, "bulk", lease_s=60)
    assert job is not None
    assert job.video_id == "v"
    assert catalogue.jobs.claim_job(accepted.job_id, "other", lease_s=60) is None
    assert catalogue.jobs.claim_job("nothing", "other", lease_s=60) is None


def test_jobs_of_many_videos_are_enqueued_once_each(catalogue: Catalogue) -> None:
    ids = [f"v{number}" for number in range(1_100)]
    first = catalogue.control.enqueue(ids, "reindex", -10)
    again = catalogue.control.enqueue(ids[:3], "reindex", -10)

    assert [job.video_id for job in first] == ids
    assert [job.id for job in again] == [job.id for job in first[:3]]
    assert {job.priority for job in first} == {-10}
    assert catalogue.control.many([first[0].id, "nothing"]) == {first[0].id: first[0]}


def test_pages_of_jobs_are_newest_first_and_filtered(catalogue: Catalogue) -> None:
    for number in range(3):
        catalogue.library.add(new_video(f"v{number}"))
    claimed(catalogue)

    page = catalogue.control.page
    assert [job.video_id for job in page(state=None, video_id=None, limit=2)] == ["v2", "v1"]
    assert [job.video_id for job in page(state="running", video_id=None, limit=9)] == ["v0"]
    assert [job.video_id for job in page(state=None, video_id="v1", limit=9)] == ["v1"]


# ---- purging


def test_ended_jobs_are_forgotten_but_for_the_answer_to_a_second_upload(
    catalogue: Catalogue,
) -> None:
    first = catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    catalogue.analyses.store("v", findings("v"))
    for kind in ("reindex", "ingest", "deepen"):
        catalogue.jobs.add("v", kind)
        catalogue.jobs.finish(claimed(catalogue))
    waiting = catalogue.library.add(new_video("waiting"))
    age(catalogue)

    assert catalogue.control.purge() == 3

    left = catalogue.control.page(state="succeeded", video_id="v", limit=9)
    assert [job.kind for job in left] == ["ingest"]
    assert left[0].id != first.job_id
    again = catalogue.library.add(new_video("v"))
    assert (again.existing, again.job_id) == (True, left[0].id)
    assert catalogue.jobs.job(waiting.job_id).state == "queued"
    assert catalogue.control.purge() == 0


def test_what_ended_lately_is_told_of(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    catalogue.jobs.finish(claimed(catalogue))
    catalogue.library.begin_delete("v")
    catalogue.jobs.finish(claimed(catalogue))
    catalogue.library.remove("v")

    assert catalogue.control.purge() == 0
    assert catalogue.control.purge(keep_s=-60) == 2
