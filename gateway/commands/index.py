"""`pixserve verify` and `reindex`: the index held against the catalogue, and made again from it.

`pixserve index …` is beside, in `versions`.
"""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands import versions
from gateway.commands.local import DEFAULT_DATA_DIR, DataDir, run_local, told
from gateway.commands.terminal import shown
from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.catalogue.claims import Kind
    from gateway.doors import Doors
    from gateway.schemas import Job
    from ingest.consistency import Finding
    from ingest.verify import Verified

WAIT_S = 0.5  # between looks at jobs that are waited for
MAX_SHOWN = 50  # findings or failures printed; --json has all of them
DROP_S = 60.0  # for dropping the collections, and for making new ones

VERIFY_HELP = """Compare the catalogue with the index and the disk, in both directions.

[bold]Examples[/bold]

  pixserve verify

  pixserve verify --repair

Exit code 1: something does not agree. --repair removes what belongs to no video and queues the
others to be indexed again. The stack must run; searches and uploads may go on.
"""
REINDEX_HELP = """Write videos into the index again, from the catalogue and their kept tokens.

[bold]Examples[/bold]

  pixserve reindex h4kq2mzd7xw3aonb

  pixserve reindex --missing --leg sound

  pixserve reindex --all --fresh

Nothing is decoded: the tokens hold what was seen, heard and said. A video without usable tokens is
analysed again; --analyse does that to all that are named. --fresh drops the collections first and
makes new ones: until the end, searches find only what is there again.
"""


class Leg(StrEnum):
    """One collection of the index."""

    visual = "visual"
    speech = "speech"
    sound = "sound"
    fused = "fused"
    keyword = "keyword"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("verify", help=VERIFY_HELP)(verify)
    app.command("reindex", help=REINDEX_HELP)(reindex)
    versions.register(app)


def verify(
    repair: Annotated[bool, typer.Option("--repair", help="Mend what is found.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Compare the catalogue with the index and the disk, in both directions."""
    import msgspec

    verified, jobs = run_local(data_dir, lambda doors: _verify(doors, repair=repair))
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(verified), indent=2).decode())
    else:
        _print(verified)
    if jobs:
        typer.echo(f"{len(jobs)} videos are queued to be indexed again: pixserve jobs")
    raise typer.Exit(1 if verified.findings else 0)


def reindex(
    videos: Annotated[list[str] | None, typer.Argument(help="Ids of videos.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All searchable videos.")] = False,
    missing: Annotated[
        bool, typer.Option("--missing", help="Those whose rows verify finds missing or surplus.")
    ] = False,
    leg: Annotated[Leg | None, typer.Option(help="With --missing: of this leg alone.")] = None,
    analyse: Annotated[
        bool, typer.Option("--analyse", help="Decode and embed again, not from the tokens.")
    ] = False,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="With --all: into new, empty collections.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Until all is done.")] = True,
    data_dir: DataDir = DEFAULT_DATA_DIR,
) -> None:
    """Write videos into the index again, from the catalogue and their kept tokens."""
    if sum((bool(videos), everything, missing)) != 1:
        raise InvalidRequest("name what to index again: ids of videos, or --all, or --missing")
    if fresh and not everything:
        raise InvalidRequest("--fresh drops every video's rows, so it goes with --all alone")
    if leg is not None and not missing:
        raise InvalidRequest("--leg goes with --missing: a video is always written whole")
    kind: Kind = "ingest" if analyse else "reindex"

    async def work(doors: "Doors") -> list["Job"]:
        ids = await _chosen(doors, videos or [], everything=everything, leg=leg)
        if fresh:
            await doors.milvus.inventory.drop(doors.bundle, timeout_s=DROP_S)
            await doors.milvus.ensure_collections(doors.bundle, timeout_s=DROP_S)
        return await _enqueued(doors, ids, kind, wait=wait)

    jobs = run_local(data_dir, work)
    failed = [job for job in jobs if job.state in ("failed", "cancelled")]
    for job in failed[:MAX_SHOWN]:
        typer.echo(shown(f"{job.video_id}: {job.state}, {job.error or job.stage}").plain, err=True)
    ended = "indexed again" if wait else "queued"
    typer.echo(f"{len(jobs) - len(failed):,} videos {ended}, {len(failed):,} failed")
    raise typer.Exit(1 if failed else 0)


async def _verify(doors: "Doors", *, repair: bool) -> "tuple[Verified, tuple[str, ...]]":
    from ingest import verify as comparison

    parts = doors.settings, doors.catalogue, doors.milvus
    verified = await comparison.verify(*parts, doors.bundle, told)
    return verified, await comparison.repair(verified, *parts) if repair else ()


async def _chosen(
    doors: "Doors", videos: Sequence[str], *, everything: bool, leg: Leg | None
) -> list[str]:
    """Return the videos that are to be indexed again."""
    if everything:
        return doors.catalogue.library.ready_ids()
    if videos:
        states = doors.catalogue.library.states(videos)
        unfit = [video for video in videos if states.get(video) != "ready"]
        if unfit:
            raise InvalidRequest(
                f"{', '.join(unfit[:5])}: only searchable videos can be indexed again; see "
                "pixserve videos"
            )
        return list(dict.fromkeys(videos))
    verified, _ = await _verify(doors, repair=False)
    wanted = [f for f in verified.findings if f.kind in ("missing rows", "surplus rows")]
    return list(dict.fromkeys(f.video_id for f in wanted if leg is None or f.leg == leg.value))


async def _enqueued(
    doors: "Doors", video_ids: Sequence[str], kind: "Kind", *, wait: bool
) -> list["Job"]:
    """Queue the jobs; wait until a worker has ended them all, where asked to."""
    from gateway.catalogue.job_control import ENDED
    from ingest.verify import REINDEX_PRIORITY

    jobs = doors.catalogue.control.enqueue(video_ids, kind, REINDEX_PRIORITY)
    left = {job.id for job in jobs} if wait else set()
    ended: dict[str, Job] = {}
    while left:
        found = doors.catalogue.control.many(left)
        ended |= {job_id: job for job_id, job in found.items() if job.state in ENDED}
        left &= {job_id for job_id, job in found.items() if job.state not in ENDED}
        told("videos indexed", len(ended))
        if left:
            await asyncio.sleep(WAIT_S)
    return [ended.get(job.id, job) for job in jobs]


def _print(verified: "Verified") -> None:
    for finding in verified.findings[:MAX_SHOWN]:
        typer.echo(shown(_line(finding)).plain)
    if len(verified.findings) > MAX_SHOWN:
        typer.echo(f"… and {len(verified.findings) - MAX_SHOWN:,} more: --json has them all")
    rows = ", ".join(f"{leg} {count:,}" for leg, count in verified.rows.items())
    busy = f", {verified.busy:,} passed over: a job works on them" if verified.busy else ""
    typer.echo(f"{verified.videos:,} videos compared with {verified.bundle}{busy}; rows: {rows}")
    found = len(verified.findings)
    typer.echo(f"{found:,} findings" if found else "catalogue, index and disk agree")


def _line(finding: "Finding") -> str:
    where = f" in {finding.leg}: {finding.rows:,}" if finding.leg else ""
    detail = f" ({finding.detail})" if finding.detail else ""
    return f"{finding.video_id}  {finding.kind}{where}{detail}"
