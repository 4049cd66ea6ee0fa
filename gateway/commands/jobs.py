"""`pixserve jobs`, `cancel` and `watch`."""

from enum import StrEnum
from typing import Annotated

import typer

from gateway.commands.terminal import DEFAULT_URL, Url, connect, print_table, shown, table_of
from gateway.errors import PixserveError


class State(StrEnum):
    """The state of a job."""

    queued = "queued"
    running = "running"
    succeeded = "succeeded"
    failed = "failed"
    cancelled = "cancelled"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("jobs")(jobs)
    app.command("cancel")(cancel)
    app.command("watch")(watch)


def jobs(
    state: Annotated[State | None, typer.Option(help="Only in this state.")] = None,
    video: Annotated[str | None, typer.Option(help="Only of this video.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 20,
    url: Url = DEFAULT_URL,
) -> None:
    """List jobs, newest first.

    Example: pixserve jobs --state running
    """
    table = table_of("job", "video", "kind", "state", "percent", "stage", "tries")
    with connect(url) as client:
        for job in client.jobs(state.value if state else None, video, limit):
            stage = job.error or job.stage
            cells = (job.kind, job.state, f"{job.percent} %", shown(stage), str(job.attempts))
            table.add_row(job.id, job.video_id, *cells)
    print_table(table)


def cancel(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Stop a job. An analysis that never ended takes the video's file along.

    Example: pixserve cancel 5f0c2a9be1d47733
    """
    with connect(url) as client:
        client.cancel_job(job)
        ended = client.wait(job)
    if ended.state != "cancelled":
        raise PixserveError(f"it was too late: job {job} has {ended.state}")
    typer.echo(f"{job} is cancelled")


def watch(
    job: Annotated[str, typer.Argument(help="The job's id.")],
    url: Url = DEFAULT_URL,
) -> None:
    """Follow a job until it ends, a line for each change.

    Example: pixserve watch 5f0c2a9be1d47733
    """
    state = ""
    with connect(url) as client:
        for told in client.job_events(job):
            state = told.state
            line = f"{told.state}, {told.percent} %, {told.error or told.stage}"
            typer.echo(shown(line).plain)
    raise typer.Exit(0 if state == "succeeded" else 1)
