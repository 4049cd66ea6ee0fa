"""`pixserve ingest`, `videos`, `invest` and `delete`."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.local import DEFAULT_DATA_DIR, DataDir
from gateway.commands.terminal import DEFAULT_URL, Url, connect, print_table, shown, table_of
from gateway.errors import Conflict, InvalidRequest, PixserveError

if TYPE_CHECKING:
    from rich.progress import Progress

    from gateway.client import Client
    from gateway.schemas import Job, Video, VideoMetadata
    from ingest.manifest import Item

AT_ONCE = 4  # files that are sent or waited for together
INGEST_EXAMPLES = """Send videos and wait until they can be searched.

[bold]Examples[/bold]

pixserve ingest talk.mp4 --title "Bread at home" --pix 500

pixserve ingest recordings/ --creator anna --category tutorial --tags cooking,bread

pixserve ingest talk.mp4 --transcript talk.en.vtt

pixserve ingest library.jsonl --workers 8

A folder is searched for video and sound files; a .srt or .vtt file of the same name goes along. A
manifest, .jsonl or .parquet, has a row a file: its path and, where wanted, transcript, title,
description, category, creator_id, pix, tags and language.

--workers and --ray read the files on this machine, without an upload, and analyse so many at once
beside the running stack, whose data folder they write; the others speak to the gateway.
"""


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("ingest", help=INGEST_EXAMPLES)(ingest)
    app.command("videos")(videos)
    app.command("invest")(invest)
    app.command("delete")(delete)


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    path: Path
    video: "Video | None"
    note: str
    failed: bool


def ingest(
    paths: Annotated[list[Path], typer.Argument(help="Files and folders.")],
    pix: Annotated[int, typer.Option(help="PIX to invest in each.", min=0)] = 0,
    category: Annotated[str | None, typer.Option(help="E.g. tutorial, music, vlog.")] = None,
    title: Annotated[str | None, typer.Option(help="Default: the file's name.")] = None,
    description: Annotated[str, typer.Option(help="What it is about.")] = "",
    creator: Annotated[str, typer.Option(help="The creator's id.")] = "anonymous",
    tags: Annotated[str, typer.Option(help="Separated by commas.")] = "",
    language: Annotated[str | None, typer.Option(help="E.g. en or pt-BR.")] = None,
    transcript: Annotated[
        Path | None, typer.Option(help="An .srt or .vtt file, for one video.")
    ] = None,
    priority: Annotated[int, typer.Option(help="Higher comes first.", min=-100, max=100)] = 0,
    workers: Annotated[
        int, typer.Option(help="Bulk: videos at once, in processes of this machine.", min=0)
    ] = 0,
    ray: Annotated[
        str, typer.Option(help="Bulk: on a Ray cluster, at this address; local: of its own.")
    ] = "",
    data_dir: DataDir = DEFAULT_DATA_DIR,
    url: Url = DEFAULT_URL,
) -> None:
    """Send videos and wait until they can be searched."""
    from dataclasses import replace

    from gateway.schemas import VideoMetadata
    from ingest.manifest import read_items

    metadata = VideoMetadata(
        title=title or "",
        description=description,
        category=category,
        creator_id=creator,
        pix=pix,
        tags=tuple(tag.strip() for tag in tags.split(",") if tag.strip()),
        language=language,
    )
    items = read_items(paths, metadata)
    if transcript is not None:
        found = list(items)
        if len(found) != 1:
            raise InvalidRequest(f"--transcript belongs to one video, not to {len(found)}")
        items = iter([replace(found[0], transcript=transcript)])
    if workers or ray:
        from gateway.commands.bulk import run_bulk

        if priority:
            raise InvalidRequest("--priority is for uploads; bulk work is begun at once")
        raise typer.Exit(run_bulk(items, workers or 1, ray, data_dir))
    _upload(list(items), priority, url)


def _upload(items: "list[Item]", priority: int, url: str) -> None:
    """Send files to the gateway, some at once, and wait for their jobs."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    connect(url).close()
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    stop = Event()
    with Progress(*columns) as bars, ThreadPoolExecutor(AT_ONCE) as pool:
        try:
            outcomes = list(
                pool.map(lambda item: _ingest_one(url, item, priority, bars, stop), items)
            )
        except KeyboardInterrupt:
            stop.set()
            typer.echo("what was sent is analysed on: see pixserve videos", err=True)
            raise
    _print_outcomes(outcomes)
    if any(outcome.failed for outcome in outcomes):
        raise typer.Exit(1)


def videos(
    limit: Annotated[int, typer.Option(help="How many.", min=1)] = 20,
    url: Url = DEFAULT_URL,
) -> None:
    """List the videos, newest first.

    Example: pixserve videos --limit 100
    """
    table = table_of("video", "title", "creator", "state", "length", "segments", "PIX")
    errors = []
    with connect(url) as client:
        after: str | None = None
        left = limit
        while left > 0:
            page = client.videos(after, min(left, 100))
            for video in page.videos:
                table.add_row(
                    video.id,
                    shown(video.title),
                    shown(video.creator_id),
                    video.state,
                    f"{video.duration_s or 0:.0f} s",
                    str(video.segments),
                    f"{video.pix:,}",
                )
                if video.error is not None:
                    errors.append(shown(f"{video.id}: {video.error}").plain)
            left -= len(page.videos)
            after = page.next
            if after is None:
                break
    print_table(table)
    for error in errors:
        typer.echo(error)


def invest(
    video: Annotated[str, typer.Argument(help="The video's id.")],
    pix: Annotated[int, typer.Argument(help="How much to add.", min=1)],
    key: Annotated[
        str | None, typer.Option(help="Makes a retry safe: the same key again adds nothing.")
    ] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Add PIX to a video: a higher rank at once, and a deeper look where there is more to see.

    Example: pixserve invest h4kq2mzd7xw3aonb 500
    """
    with connect(url) as client:
        done = client.invest(video, pix, key or secrets.token_hex(8))
    added = "was added before" if done.repeated else f"+{done.pix:,}"
    deeper = f"; job {done.job_id} looks deeper" if done.job_id else ""
    typer.echo(f"{done.video_id}: {done.total_pix:,} PIX ({added}){deeper}")


def delete(
    video: Annotated[str, typer.Argument(help="The video's id.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Delete a video, its analysis and its file, and wait until all of it is gone.

    Example: pixserve delete h4kq2mzd7xw3aonb
    """
    with connect(url) as client:
        job = client.wait(client.delete_video(video).id)
    if job.state != "succeeded":
        raise PixserveError(f"the deletion {job.state}: {job.error or job.stage}")
    typer.echo(f"{video} is deleted")


def _ingest_one(url: str, item: "Item", priority: int, bars: "Progress", stop: Event) -> Outcome:
    """Send one file and wait for its job, until `stop` is set; an error is this file's alone."""
    from gateway.client import Client

    path, metadata = item.path, item.metadata
    name = shown(path.name).plain
    bar = bars.add_task(f"{name}: sending", total=100)

    def sent(done: int, total: int) -> None:
        if stop.is_set():
            raise PixserveError("interrupted")
        bars.update(bar, completed=100 * done / max(1, total))

    def analysed(job: "Job") -> None:
        bars.update(bar, description=f"{name}: {job.stage}", completed=job.percent)

    try:
        with Client(url) as client:
            accepted = client.upload(path, metadata, item.transcript, sent)
            if priority and not accepted.existing:
                _rank(client, accepted.job_id, priority)
            job = client.wait(accepted.job_id, analysed, stop=stop)
            video = client.video(accepted.video_id)
    except (PixserveError, OSError) as error:
        bars.update(bar, description=f"{name}: failed")
        return Outcome(path, None, str(error), failed=True)
    if job.state != "succeeded":
        return Outcome(path, video, job.error or job.state, failed=True)
    return Outcome(path, video, _kept(video, metadata, accepted.existing), failed=False)


def _rank(client: "Client", job_id: str, priority: int) -> None:
    """Say how urgent a job is, unless it is over by now."""
    with suppress(Conflict):
        client.set_priority(job_id, priority)


def _kept(video: "Video", metadata: "VideoMetadata", existing: bool) -> str:
    """Return what a second upload of a video left as it was."""
    note = "was there already" if existing else ""
    if not metadata.pix or (not existing and video.pix >= metadata.pix):
        return note
    advice = f"no PIX was added: pixserve invest {video.id} {metadata.pix}"
    return "; ".join(filter(None, (note, advice)))


def _print_outcomes(outcomes: list[Outcome]) -> None:
    table = table_of("file", "video", "state", "length", "segments", "PIX")
    for outcome in outcomes:
        video = outcome.video
        table.add_row(
            shown(outcome.path.name),
            video.id if video else "",
            "[red]failed" if outcome.failed else "[green]ready",
            f"{video.duration_s or 0:.0f} s" if video else "",
            str(video.segments) if video else "",
            f"{video.pix:,}" if video else "",
        )
    print_table(table)
    for outcome in outcomes:
        if outcome.note:
            typer.echo(shown(f"{outcome.path.name}: {outcome.note}").plain)
