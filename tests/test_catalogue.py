import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.catalogue.bounds import Bounds
from gateway.catalogue.catalogue import Catalogue
from gateway.catalogue.database import id_batches
from gateway.errors import ConfigurationError, Conflict, InvalidRequest, NotFound, Unavailable
from gateway.schemas import InvestmentRequest, Modality, VideoPatch
from tests.catalogues import findings, new_video


def ready(catalogue: Catalogue, video_id: str, *, segments: int = 3, **metadata: object) -> str:
    catalogue.library.add(new_video(video_id, **metadata))
    catalogue.analyses.store(video_id, findings(video_id, segments=segments))
    return video_id


# ---- what a search reads


def test_only_searchable_videos_have_pix_for_a_search(catalogue: Catalogue) -> None:
    ready(catalogue, "a", pix=7)
    catalogue.library.add(new_video("queued", pix=9))
    ready(catalogue, "gone", pix=5)
    catalogue.library.begin_delete("gone")
    catalogue.library.add(new_video("broken", pix=3))
    fail(catalogue, "no", "broken")

    assert catalogue.pix_of(["a", "queued", "gone", "broken", "unknown"]) == {"a": 7}


def test_segments_and_videos_are_read_by_id(catalogue: Catalogue) -> None:
    ready(catalogue, "a", title="Bread", category="food", creator_id="anna")

    segments = catalogue.segments(["a-000005000", "unknown"])
    videos = catalogue.videos(["a", "unknown"])

    assert segments.keys() == {"a-000005000"}
    facts = segments["a-000005000"]
    assert (facts.video_id, facts.start_s, facts.end_s) == ("a", 5.0, 10.0)
    assert (facts.text, facts.scene_index, facts.index) == ("words 1", 0, 1)
    assert (videos["a"].title, videos["a"].creator_id) == ("Bread", "anna")
    assert videos["a"].category == "food"


def test_reads_of_nothing_return_nothing(catalogue: Catalogue) -> None:
    assert catalogue.pix_of([]) == catalogue.segments([]) == catalogue.videos([]) == {}


def test_more_ids_than_a_statement_takes_are_read_in_parts(catalogue: Catalogue) -> None:
    ready(catalogue, "a", pix=1)
    ids = [f"unknown-{number}" for number in range(25_000)]

    assert catalogue.pix_of([*ids, "a"]) == {"a": 1}


def test_more_videos_than_a_statement_takes_are_known_by_parts(
    catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.catalogue.database.MAX_IDS", 2)
    for number in range(5):
        catalogue.library.add(new_video(f"v{number}"))
    ids = [f"v{number}" for number in range(7)]
    assert list(map(len, id_batches(ids))) == [2, 2, 2, 1]
    assert catalogue.library.known(ids) == set(ids[:5])


def test_videos_are_found_by_their_pix_most_first(catalogue: Catalogue) -> None:
    for name, pix in (("a", 10), ("b", 30), ("c", 20), ("d", 5)):
        ready(catalogue, name, pix=pix)

    assert catalogue.videos_within(Bounds(min_pix=10)) == ("b", "c", "a")


# ---- the library


def test_an_upload_enters_video_pix_and_job_together(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("a", pix=12, tags=("x", "y"), title="T"))

    video = catalogue.library.video("a")
    assert not accepted.existing
    assert (video.pix, video.tags, video.title, video.state) == (12, ("x", "y"), "T", "queued")
    assert video.visual == Modality(percent=0, state="pending")
    assert video.audio == Modality(percent=0, state="absent")
    job = catalogue.jobs.job(accepted.job_id)
    assert (job.video_id, job.kind, job.state) == ("a", "ingest", "queued")


def test_the_same_video_again_is_the_same_video_and_job(catalogue: Catalogue) -> None:
    first = catalogue.library.add(new_video("a", pix=12))
    again = catalogue.library.add(new_video("a", pix=99))

    assert again == msgspec.structs.replace(first, existing=True)
    assert catalogue.library.existing("a") == again
    assert catalogue.library.video("a").pix == 12


def test_many_uploads_of_one_video_at_once_make_one_job(catalogue: Catalogue) -> None:
    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(lambda _: catalogue.library.add(new_video("a", pix=2)), range(12)))

    assert len({accepted.job_id for accepted in outcomes}) == 1
    assert sum(not accepted.existing for accepted in outcomes) == 1
    assert catalogue.library.video("a").pix == 2


def test_a_failed_video_is_taken_in_anew_and_keeps_its_ledger(catalogue: Catalogue) -> None:
    first = catalogue.library.add(new_video("a", pix=12))
    fail(catalogue, "not_media: no", "a")

    again = catalogue.library.add(new_video("a", pix=12))

    video = catalogue.library.video("a")
    assert not again.existing
    assert again.job_id != first.job_id
    assert (video.state, video.error, video.pix) == ("queued", None, 12)


def test_a_video_that_is_being_deleted_refuses_everything_but_reads(catalogue: Catalogue) -> None:
    ready(catalogue, "a")
    job = catalogue.library.begin_delete("a")

    assert catalogue.library.begin_delete("a").id == job.id
    assert catalogue.library.video("a").state == "deleting"
    for refused in (
        lambda: catalogue.library.add(new_video("a")),
        lambda: catalogue.library.existing("a"),
        lambda: catalogue.library.patch("a", VideoPatch(title="t")),
        lambda: catalogue.analyses.store("a", findings("a")),
        lambda: invest(catalogue, "a", 1, "k"),
    ):
        with pytest.raises(Conflict):
            refused()


def test_a_failure_that_comes_after_a_deletion_does_not_bring_the_video_back(
    catalogue: Catalogue,
) -> None:
    catalogue.library.add(new_video("a"))
    job = catalogue.jobs.claim("w", lease_s=60)
    assert job is not None
    catalogue.library.begin_delete("a")

    catalogue.jobs.fail(job, "late")

    assert catalogue.library.video("a").state == "deleting"


def test_a_failure_leaves_a_searchable_video_searchable(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("a"))
    job = catalogue.jobs.claim("w", lease_s=60)
    assert job is not None
    catalogue.analyses.store("a", findings("a"))

    assert catalogue.jobs.fail(job, "after its result was stored")

    assert catalogue.library.video("a").state == "ready"


def test_a_removed_video_takes_all_of_its_rows_with_it(catalogue: Catalogue) -> None:
    ready(catalogue, "a", pix=5)
    catalogue.library.remove("a")

    assert catalogue.segments(["a-000000000"]) == {}
    assert catalogue.library.known(["a"]) == set()
    with pytest.raises(NotFound):
        catalogue.library.video("a")


def test_a_patch_changes_what_is_given_and_nothing_else(catalogue: Catalogue) -> None:
    ready(catalogue, "a", title="old", category="food", language="en", tags=("x",), pix=3)

    video = catalogue.library.patch("a", VideoPatch(title="new", category=None, tags=("y", "z")))

    assert (video.title, video.category, video.tags) == ("new", None, ("y", "z"))
    assert (video.language, video.pix) == ("en", 3)


def test_changed_metadata_is_outdated_until_the_index_has_it(catalogue: Catalogue) -> None:
    ready(catalogue, "a")
    assert catalogue.analyses.outdated(10) == ()

    catalogue.library.patch("a", VideoPatch(title="new"))
    assert catalogue.analyses.outdated(10) == ("a",)

    record = catalogue.analyses.record("a")
    catalogue.library.patch("a", VideoPatch(title="newer"))
    catalogue.analyses.mark_indexed("a", record.revision)
    assert catalogue.analyses.outdated(10) == ("a",)

    catalogue.analyses.mark_indexed("a", catalogue.analyses.record("a").revision)
    assert catalogue.analyses.outdated(10) == ()


def test_pages_hold_every_video_once_newest_first(catalogue: Catalogue) -> None:
    names = [f"v{number}" for number in range(7)]
    for name in names:
        catalogue.library.add(new_video(name))

    seen: list[str] = []
    after = None
    while True:
        page = catalogue.library.page(after, 3)
        seen += [video.id for video in page.videos]
        after = page.next
        if after is None:
            break

    assert seen == names[::-1]


@pytest.mark.parametrize("cursor", ["!", "é", "AAA", "AAAA"])
def test_a_foreign_cursor_is_refused(catalogue: Catalogue, cursor: str) -> None:
    with pytest.raises(InvalidRequest, match="after"):
        catalogue.library.page(cursor, 3)


# ---- the ledger


def invest(catalogue: Catalogue, video_id: str, pix: int, key: str, *, deeper: bool = False):
    request = InvestmentRequest(pix=pix, key=key)
    return catalogue.ledger.invest(video_id, request, lambda *_: deeper)


def test_an_investment_adds_once_for_each_key(catalogue: Catalogue) -> None:
    ready(catalogue, "a", pix=5)

    first = invest(catalogue, "a", 10, "k")
    again = invest(catalogue, "a", 10, "k")
    other = invest(catalogue, "a", 1, "l")

    assert (first.total_pix, first.repeated) == (15, False)
    assert (again.total_pix, again.repeated, again.id) == (15, True, first.id)
    assert other.total_pix == 16
    assert catalogue.library.video("a").pix == 16


def test_a_key_with_another_amount_is_a_conflict_and_adds_nothing(catalogue: Catalogue) -> None:
    ready(catalogue, "a")
    invest(catalogue, "a", 10, "k")

    with pytest.raises(Conflict, match="10 PIX, this asks for 11"):
        invest(catalogue, "a", 11, "k")
    assert catalogue.library.video("a").pix == 10


def test_an_investment_in_no_video_is_not_found(catalogue: Catalogue) -> None:
    with pytest.raises(NotFound):
        invest(catalogue, "nothing", 1, "k")


def test_investments_of_many_threads_with_repeated_keys_end_in_the_right_sum(
    catalogue: Catalogue,
) -> None:
    ready(catalogue, "a", pix=100)
    keys = [f"k{number % 8}" for number in range(48)]

    with ThreadPoolExecutor(8) as pool:
        done = list(pool.map(lambda key: invest(catalogue, "a", int(key[1:]) + 1, key), keys))

    assert catalogue.library.video("a").pix == 100 + sum(range(1, 9))
    assert sum(not investment.repeated for investment in done) == 8


def test_more_pix_means_a_job_only_where_there_is_more_to_look_at(catalogue: Catalogue) -> None:
    ready(catalogue, "a")
    finish_all(catalogue)

    assert invest(catalogue, "a", 1, "k").job_id is None
    job_id = invest(catalogue, "a", 1, "l", deeper=True).job_id
    assert job_id is not None
    assert catalogue.jobs.job(job_id).kind == "deepen"
    assert invest(catalogue, "a", 1, "m", deeper=True).job_id == job_id


def test_pix_that_comes_before_the_analysis_is_seen_by_it(catalogue: Catalogue) -> None:
    accepted = catalogue.library.add(new_video("a"))
    assert invest(catalogue, "a", 1, "k", deeper=True).job_id == accepted.job_id


def test_pix_that_comes_while_the_analysis_runs_is_looked_at_after_it(
    catalogue: Catalogue,
) -> None:
    catalogue.library.add(new_video("a"))
    job = catalogue.jobs.claim("w", lease_s=60)
    assert job is not None
    assert invest(catalogue, "a", 1, "k", deeper=True).job_id is None

    catalogue.analyses.store("a", findings("a", pix=0))
    asked: list[tuple[float, int, int]] = []
    assert catalogue.ledger.deepen("a", lambda *told: asked.append(told) or True) is not None
    assert asked == [(20.0, 0, 1)]


# ---- the database


def test_what_was_acknowledged_is_there_after_a_new_start(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'c.db'}"
    first = Catalogue(url)
    first.library.add(new_video("a", pix=3))
    second = Catalogue(url)  # the first was never closed: as after a crash
    assert second.library.video("a").pix == 3
    first.close()
    second.close()


def test_acknowledged_writes_wait_for_the_disk(tmp_path: Path) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'c.db'}")
    with catalogue._database.read() as connection:
        names = ("journal_mode", "synchronous", "foreign_keys")
        values = [connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names]
    catalogue.close()
    assert values == ["wal", 2, 1]


def test_a_reader_that_then_writes_waits_for_other_writers(tmp_path: Path) -> None:
    catalogue = Catalogue(f"sqlite:///{tmp_path / 'c.db'}")
    catalogue.library.add(new_video("a"))
    barrier = threading.Barrier(4)

    def patch(number: int) -> None:
        barrier.wait()
        for _ in range(10):
            catalogue.library.patch("a", VideoPatch(title=str(number)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(patch, range(4)))
    assert catalogue.analyses.record("a").revision == 41
    catalogue.close()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://h/d"])
def test_a_database_that_cannot_keep_the_truth_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Catalogue(url)


def test_a_catalogue_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    Catalogue(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        connection.execute("update settings set value = '0' where key = 'schema'")
    connection.close()
    with pytest.raises(ConfigurationError, match="schema 0"):
        Catalogue(f"sqlite:///{path}")


def test_text_that_a_database_cannot_store_is_refused_or_stored_whole(catalogue: Catalogue) -> None:
    new = new_video("a", title="a\0b")
    if catalogue._database._engine.dialect.name == "postgresql":
        with pytest.raises(InvalidRequest, match=r"U\+0000"):
            catalogue.library.add(new)
        assert catalogue.library.known(["a"]) == set()
    else:
        assert catalogue.library.add(new).existing is False
        assert catalogue.library.video("a").title == "a\0b"


def test_a_file_that_is_no_database_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "c.db"
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(Unavailable) as caught:
        Catalogue(f"sqlite:///{path}")
    assert caught.value.part == "catalogue"


@given(st.text(max_size=200))
def test_any_title_survives(sqlite_catalogue: Catalogue, title: str) -> None:
    sqlite_catalogue.library.patch("a", VideoPatch(title=title))
    assert sqlite_catalogue.library.video("a").title == title


@pytest.fixture(scope="module")
def sqlite_catalogue(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Catalogue]:
    catalogue = Catalogue(f"sqlite:///{tmp_path_factory.mktemp('c') / 'c.db'}")
    catalogue.library.add(new_video("a"))
    yield catalogue
    catalogue.close()


def fail(catalogue: Catalogue, error: str, video_id: str) -> None:
    while job := catalogue.jobs.claim("w", lease_s=60):
        if job.video_id == video_id:
            assert catalogue.jobs.fail(job, error)
            return


def finish_all(catalogue: Catalogue) -> None:
    while job := catalogue.jobs.claim("w", lease_s=60):
        catalogue.jobs.finish(job)


def test_removing_a_video_tells_what_is_left_of_it(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v", pix=3))
    catalogue.analyses.store("v", findings("v"))
    assert catalogue.library.remove("v") == {}
    assert catalogue.segments_of("v") == []


def test_an_upload_after_a_failure_brings_its_own_metadata_and_more_pix(
    catalogue: Catalogue,
) -> None:
    catalogue.library.add(new_video("v", title="first", pix=3))
    fail(catalogue, "not_media: no", "v")

    again = catalogue.library.add(new_video("v", title="second", pix=9, tags=("new",)))
    video = catalogue.library.video("v")
    assert not again.existing
    assert (video.title, video.tags, video.pix, video.error) == ("second", ("new",), 9, None)

    for pix in (9, 2, 0):  # no PIX is taken twice, and none is taken away
        fail(catalogue, "not_media: no", "v")
        catalogue.library.add(new_video("v", pix=pix))
        assert catalogue.library.video("v").pix == 9


def test_pix_that_comes_with_the_second_upload_alone_counts(catalogue: Catalogue) -> None:
    catalogue.library.add(new_video("v"))
    fail(catalogue, "not_media: no", "v")
    catalogue.library.add(new_video("v", pix=7))
    assert catalogue.library.video("v").pix == 7


def test_a_catalogue_of_the_first_version_is_brought_up_to_date(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'catalogue.db'}"
    old = Catalogue(url)
    old.library.add(new_video("v"))
    with old._database.write() as connection:
        for statement in (
            "drop index jobs_next",
            "drop index jobs_next_to_hear",
            "drop index jobs_ended",
            "alter table jobs drop column priority",
            "alter table jobs drop column kills",
            "update settings set value = '1' where key = 'schema'",
        ):
            connection.exec_driver_sql(statement)
    old.close()

    new = Catalogue(url)
    job = new.jobs.claim("w", lease_s=60)
    assert job is not None
    assert (new.jobs.job(job.id).priority, job.kills) == (0, 0)
    new.close()
    Catalogue(url).close()  # once is enough
