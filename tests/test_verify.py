"""Catalogue, index and disk held against each other, and the index made again from tokens."""

import asyncio
import os
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.api.incoming import locked_folder
from gateway.doors import Doors
from gateway.index.milvus import Milvus
from gateway.index.rows import LEGS, IndexRow
from gateway.schemas import LegName
from gateway.settings import Settings, settings_to_environment
from ingest.consistency import Finding
from ingest.jobs import run
from ingest.tokens import TOKENS_FILE
from ingest.verify import REINDEX_PRIORITY, Verified, repair, verify
from tests.corpora import index_row
from tests.gateways import BUNDLE, unit
from tests.ingests import add, claim, counts, embedder, opened_doors
from tests.media import make_sound
from tests.test_cli import PIXSERVE

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("sandbox")]


@pytest.fixture
async def doors(tmp_path: Path, milvus_uri: str, video: Path) -> AsyncIterator[Doors]:
    """A stack with one video, in an index that holds nothing else."""
    cleaner = Milvus(milvus_uri)
    await cleaner.inventory.drop(BUNDLE, timeout_s=10)
    await cleaner.close()
    async with opened_doors(tmp_path, milvus_uri) as doors:
        await ingested(doors, "kept", video)
        yield doors


async def ingested(doors: Doors, video_id: str, source: Path) -> None:
    add(doors, video_id, source, title="Bread")
    await run(doors, claim(doors))
    assert doors.catalogue.library.video(video_id).state == "ready"


async def verified(doors: Doors) -> Verified:
    def progress(_what: str, _count: int) -> None:
        return

    return await verify(doors.settings, doors.catalogue, doors.milvus, BUNDLE, progress)


async def kinds(doors: Doors) -> set[tuple[str, str, str | None]]:
    findings = (await verified(doors)).findings
    return {(finding.kind, finding.video_id, finding.leg) for finding in findings}


def stranger(video_id: str, number: int = 0) -> IndexRow:
    return index_row(video_id, number, visual=unit(BUNDLE.dims.vision))


async def all_rows(doors: Doors) -> dict[str, list[tuple[str, str]]]:
    """What the index holds: the ids of each leg."""
    found = {}
    for leg in LEGS:
        pages = [page async for page in doors.milvus.inventory.rows(BUNDLE, leg, timeout_s=10)]
        found[leg] = sorted(item for page in pages for item in page)
    return found


# ---- verify


async def test_an_ingest_agrees_with_itself(doors: Doors, tmp_path: Path) -> None:
    await ingested(doors, "sound", make_sound(tmp_path / "a.m4a"))

    report = await verified(doors)

    assert report.findings == ()
    assert (report.bundle, report.videos, report.busy) == (BUNDLE.id, 2, 0)
    segments = sum(doors.catalogue.library.video(v).segments for v in ("kept", "sound"))
    assert report.rows["keyword"] == segments
    assert report.rows["visual"] == doors.catalogue.library.video("kept").segments


@pytest.mark.parametrize("leg", LEGS)
async def test_rows_that_are_missing_are_found_by_leg(doors: Doors, leg: LegName) -> None:
    there = await doors.milvus.inventory.segment_ids(BUNDLE, leg, "kept", timeout_s=10)
    await doors.milvus.inventory.delete_segments(BUNDLE, leg, there, timeout_s=10)

    (finding,) = (await verified(doors)).findings
    assert finding == Finding(kind="missing rows", video_id="kept", leg=leg, rows=len(there))


async def test_rows_that_are_too_many_are_found(doors: Doors) -> None:
    await doors.milvus.write(BUNDLE, [stranger("kept", 999_000)], timeout_s=10)
    assert await kinds(doors) == {("surplus rows", "kept", "visual")}


async def test_rows_of_a_video_that_is_not_there_are_found(doors: Doors) -> None:
    await doors.milvus.write(BUNDLE, [stranger("ghost"), stranger("ghost", 1)], timeout_s=10)
    (finding,) = (await verified(doors)).findings
    assert finding == Finding(kind="orphan rows", video_id="ghost", leg="visual", rows=2)


async def test_a_video_that_a_job_works_on_is_passed_over(doors: Doors) -> None:
    doors.catalogue.jobs.add("kept", "reindex")
    claim(doors)
    await doors.milvus.delete_video(BUNDLE, "kept", timeout_s=10)
    report = await verified(doors)
    assert (report.findings, report.videos, report.busy) == ((), 0, 1)


async def test_files_that_are_gone_or_damaged_are_found(doors: Doors) -> None:
    folder = doors.settings.videos_dir / "kept"
    (folder / "source.mp4").unlink()
    (folder / TOKENS_FILE).write_bytes(b"PK")
    (doors.settings.videos_dir / "nobodys").mkdir()
    assert await kinds(doors) == {
        ("no file", "kept", None),
        ("no tokens", "kept", None),
        ("orphan folder", "nobodys", None),
    }


async def test_a_folder_that_an_upload_fills_is_no_orphan(doors: Doors) -> None:
    _, lock = locked_folder(doors.settings.videos_dir)
    assert await kinds(doors) == set()
    os.close(lock)


# ---- repair and reindex


async def test_what_is_wrong_is_repaired_without_decoding(doors: Doors) -> None:
    before = await all_rows(doors)
    chunks, fused = embedder(doors).calls, embedder(doors).fused
    await doors.milvus.delete_video(BUNDLE, "kept", timeout_s=10)
    await doors.milvus.write(BUNDLE, [stranger("ghost"), stranger("kept", 999_000)], timeout_s=10)
    (doors.settings.videos_dir / "nobodys").mkdir()

    jobs = await repair(await verified(doors), doors.settings, doors.catalogue, doors.milvus)
    job = claim(doors)
    assert (jobs, job.kind) == ((job.id,), "reindex")
    assert doors.catalogue.jobs.job(job.id).priority == REINDEX_PRIORITY
    await run(doors, job)

    assert doors.catalogue.jobs.job(job.id).state == "succeeded"
    assert (await verified(doors)).findings == ()
    assert await all_rows(doors) == before
    assert embedder(doors).calls == chunks
    assert embedder(doors).fused - fused == doors.catalogue.library.video("kept").segments
    assert not (doors.settings.videos_dir / "nobodys").exists()


async def test_vectors_from_tokens_are_those_of_the_analysis(doors: Doors) -> None:
    async def nearest() -> list[tuple[str, float]]:
        found = await doors.milvus.search_vector(
            BUNDLE, "visual", unit(BUNDLE.dims.vision), k=9, expression="", timeout_s=10
        )
        return [(candidate.segment_id, candidate.raw) for candidate in found]

    before = await nearest()
    doors.catalogue.jobs.add("kept", "reindex")
    await run(doors, claim(doors))
    after = dict(await nearest())

    assert after.keys() == dict(before).keys()
    for segment_id, raw in before:
        assert after[segment_id] == pytest.approx(raw, abs=2e-3)


async def test_a_whole_index_is_made_again_in_new_collections(doors: Doors, video: Path) -> None:
    await ingested(doors, "second", video)
    before = await all_rows(doors)
    await doors.milvus.inventory.drop(BUNDLE, timeout_s=10)
    await doors.milvus.ensure_collections(BUNDLE, timeout_s=10)

    doors.catalogue.control.enqueue(doors.catalogue.library.ready_ids(), "reindex")
    for _ in range(2):
        await run(doors, claim(doors))

    assert await all_rows(doors) == before
    assert (await verified(doors)).findings == ()


@pytest.mark.parametrize("data", [None, b"PK damaged"])
async def test_without_usable_tokens_a_video_is_analysed_again(
    doors: Doors, data: bytes | None
) -> None:
    chunks = embedder(doors).calls
    tokens = doors.settings.videos_dir / "kept" / TOKENS_FILE
    tokens.unlink()
    if data is not None:
        tokens.write_bytes(data)
    await doors.milvus.delete_video(BUNDLE, "kept", timeout_s=10)
    doors.catalogue.jobs.add("kept", "reindex")

    await run(doors, claim(doors))

    assert embedder(doors).calls > chunks
    assert (await verified(doors)).findings == ()


async def test_tokens_of_another_analysis_are_not_used(doors: Doors) -> None:
    with doors.catalogue._database.write() as connection:
        connection.exec_driver_sql('delete from segments where "index" = 0')
    chunks = embedder(doors).calls
    doors.catalogue.jobs.add("kept", "reindex")
    await run(doors, claim(doors))
    assert embedder(doors).calls > chunks
    assert (await verified(doors)).findings == ()


async def test_a_deleted_video_is_not_indexed_again(doors: Doors) -> None:
    job = doors.catalogue.jobs.add("kept", "reindex")
    running = claim(doors)
    doors.catalogue.library.begin_delete("kept")
    await run(doors, running)
    assert doors.catalogue.jobs.job(job.id).state == "cancelled"
    await run(doors, claim(doors))
    assert set((await counts(doors, "kept")).values()) == {0}


# ---- the commands


def pixserve(settings: Settings, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run a command on a folder, with the addresses of its parts in the environment."""
    given = settings_to_environment(settings)
    named = ("PIXSERVE_MILVUS", "PIXSERVE_TRITON", "PIXSERVE_PROFILE")
    variables = {name: given[name] for name in named}
    return subprocess.run(
        [PIXSERVE, *arguments, "--data-dir", settings.data_dir],
        capture_output=True,
        text=True,
        timeout=60,
        env={"COLUMNS": "160", "PATH": "/usr/bin", **variables},
        check=False,
    )


async def test_the_command_tells_what_it_found_and_queues_the_repair(doors: Doors) -> None:
    agreed = await asyncio.to_thread(pixserve, doors.settings, "verify")
    assert (agreed.returncode, agreed.stderr) == (0, "")
    assert "catalogue, index and disk agree" in agreed.stdout

    await doors.milvus.delete_video(BUNDLE, "kept", timeout_s=10)
    found = await asyncio.to_thread(pixserve, doors.settings, "verify", "--repair")
    assert found.returncode == 1
    assert "kept  missing rows in visual" in found.stdout
    assert "1 videos are queued" in found.stdout
    assert claim(doors).kind == "reindex"


@pytest.mark.parametrize(
    ("arguments", "queued"),
    [
        (("kept",), ["reindex"]),
        (("--all",), ["reindex"]),
        (("--all", "--analyse"), ["ingest"]),
        (("--missing",), []),
    ],
)
async def test_videos_are_queued_to_be_indexed_again(
    doors: Doors, arguments: tuple[str, ...], queued: list[str]
) -> None:
    done = await asyncio.to_thread(pixserve, doors.settings, "reindex", "--no-wait", *arguments)
    assert done.returncode == 0, done.stderr
    assert f"{len(queued)} videos queued" in done.stdout
    jobs = doors.catalogue.control.page(state="queued", video_id=None, limit=9)
    assert [job.kind for job in jobs] == queued


async def test_missing_rows_of_one_leg_choose_the_videos(doors: Doors) -> None:
    there = await doors.milvus.inventory.segment_ids(BUNDLE, "sound", "kept", timeout_s=10)
    await doors.milvus.inventory.delete_segments(BUNDLE, "sound", there, timeout_s=10)
    for leg, videos in (("visual", 0), ("sound", 1)):
        arguments = ("reindex", "--no-wait", "--missing", "--leg", leg)
        done = await asyncio.to_thread(pixserve, doors.settings, *arguments)
        assert f"{videos} videos queued" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "name what to index again"),
        (("kept", "--all"), "name what to index again"),
        (("nothing",), "only searchable videos"),
        (("--fresh", "kept"), "--fresh"),
        (("--all", "--leg", "sound"), "--leg"),
    ],
)
async def test_a_wrong_reindex_is_refused(
    doors: Doors, arguments: tuple[str, ...], told: str
) -> None:
    refused = await asyncio.to_thread(pixserve, doors.settings, "reindex", *arguments)
    assert refused.returncode == 1
    assert told in refused.stderr
    assert "Traceback" not in refused.stderr


def test_without_a_stack_the_commands_say_what_to_do(tmp_path: Path) -> None:
    for command in (("verify",), ("reindex", "--all")):
        done = subprocess.run(
            [PIXSERVE, *command, "--data-dir", tmp_path],
            capture_output=True,
            text=True,
            timeout=60,
            env={"PATH": "/usr/bin"},
            check=False,
        )
        assert done.returncode == 1
        assert "pixserve up" in done.stderr
