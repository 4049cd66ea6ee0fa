"""What `make demo` runs: from nothing to ranked moments, and how to go on from there.

render → export → pixserve up → ingest → example searches → wait for Ctrl-C → pixserve down
"""

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import which
from types import FrameType
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from deploy.demo.corpus import corpus_video
from deploy.demo.render import DemoVideo, render_all
from deploy.demo.show import show_examples
from deploy.spec import last_line
from export.build import ensure_exported
from gateway.api.uploads import video_id
from gateway.client import Client
from gateway.errors import (
    ConfigurationError,
    DeadlineExceeded,
    NotFound,
    PixserveError,
    Unavailable,
)
from gateway.schemas import Job
from gateway.settings import Settings

PROFILE = "mini"
UP_TIMEOUT_S = 180.0  # the stack is ready in seconds; slow disks and cold caches may take longer
DOWN_TIMEOUT_S = 60.0
JOB_TIMEOUT_S = 600.0

console = Console()


def run(data_dir: Path, port: int, *, once: bool) -> None:
    """Run the whole demo; the stack is stopped when this returns or raises.

    Args:
        data_dir: where videos, models and indexes go; kept for the next run.
        port: of the gateway, on loopback.
        once: stop after the output, in place of waiting for Ctrl-C.

    Raises:
        PixserveError: a step failed; the message says which and why.
    """
    folder = data_dir.expanduser().resolve()
    videos = render_videos(folder / "demo")
    export_models(folder)
    with stack(folder, port) as address, Client(address) as client:
        ids = ingest(client, videos)
        show_examples(console, client, {video.name: video for video in videos}, ids)
        _tell_how_to_go_on(address, folder)
        if not once:
            console.print("The stack stays up. [bold]Ctrl-C[/] stops it.")
            signal.pause()


def render_videos(folder: Path) -> tuple[DemoVideo, ...]:
    """Render the demo videos that are not there yet, with a progress bar."""
    with _bar() as bar:
        task = bar.add_task("rendering the demo videos", total=None)

        def report(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=f"rendered {name}")

        videos = (*render_all(folder, report), corpus_video(folder / "corpus"))
    seconds = sum(video.duration_s for video in videos)
    told = f"[green]✓[/] {len(videos)} videos, {seconds:.0f} s in all, in {folder}"
    console.print(told, soft_wrap=True)
    return videos


def export_models(data_dir: Path) -> None:
    """Export the mini profile where that was not done yet, with a progress bar."""
    with _bar() as bar:
        task = bar.add_task("exporting the models", total=None)

        def report(what: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, description=what)

        bundle = ensure_exported(PROFILE, Settings(data_dir=str(data_dir)).models_dir, report)
    console.print(f"[green]✓[/] models {bundle.id}")


@contextmanager
def stack(data_dir: Path, port: int) -> Iterator[str]:
    """Bring the stack up, yield the gateway's URL, and take the stack down again."""
    started = time.monotonic()
    where = ["--data-dir", str(data_dir)]
    try:
        with console.status("starting Triton, Milvus, the ingest worker and the gateway"):
            _pixserve(["up", "--detach", "--profile", PROFILE, "--port", str(port), *where])
    except (DeadlineExceeded, KeyboardInterrupt):
        _pixserve(["down", *where])  # it may still be starting; a refusal has left nothing
        raise
    console.print(f"[green]✓[/] the stack is up in {time.monotonic() - started:.1f} s")
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        with console.status("stopping the stack"):
            _pixserve(["down", *where])
        console.print("[green]✓[/] the stack is stopped")


def _pixserve(arguments: Sequence[str]) -> None:
    """Run a command of pixserve.

    Raises:
        Unavailable: it failed; the message is the last line that it printed.
        DeadlineExceeded: it took too long.
    """
    command = Path(sys.executable).with_name("pixserve")
    if not command.is_file():
        raise ConfigurationError(f"{command} is missing: install pixserve beside {sys.executable}")
    limit_s = DOWN_TIMEOUT_S if arguments[0] == "down" else UP_TIMEOUT_S
    with tempfile.TemporaryFile("w+") as said:  # a pipe would stay open with the detached stack
        try:
            done = subprocess.run(
                [str(command), *arguments], stdout=said, stderr=said, timeout=limit_s
            )
        except subprocess.TimeoutExpired as error:
            reason = f"pixserve {arguments[0]} took over {limit_s:g} s"
            raise DeadlineExceeded("stack", reason) from error
        said.seek(0)
        if done.returncode:
            raise Unavailable("stack", last_line(said.read()) or f"exit status {done.returncode}")


def ingest(client: Client, videos: Sequence[DemoVideo]) -> dict[str, str]:
    """Upload the videos that are not indexed yet and wait for them; returns ids by name.

    Raises:
        PixserveError: a video could not be ingested.
    """
    ids = {video.name: id_of(video) for video in videos}
    fresh = [video for video in videos if not _is_ready(client, ids[video.name])]
    started = time.monotonic()
    with _bar() as bar:
        rows = {video.name: bar.add_task(video.path.name, total=100) for video in fresh}
        jobs = {video: _upload(client, video, bar, rows[video.name]) for video in fresh}
        for video, job_id in jobs.items():
            _wait(client, video, job_id, bar, rows[video.name])
    _tell_speed(fresh, len(videos), time.monotonic() - started)
    return ids


def id_of(video: DemoVideo) -> str:
    """Return the id that a demo video has, or will have, in the stack."""
    content = hashlib.sha256(video.path.read_bytes()).hexdigest()
    return video_id(video.metadata.creator_id, content)


def _is_ready(client: Client, wanted: str) -> bool:
    with suppress(NotFound):
        return client.video(wanted).state == "ready"
    return False


def _upload(client: Client, video: DemoVideo, bar: Progress, row: TaskID) -> str:
    bar.update(row, description=f"{video.path.name}: upload")
    accepted = client.upload(video.path, video.metadata, transcript=video.sidecar)
    bar.update(row, description=f"{video.path.name}: queued")
    return accepted.job_id


def _wait(client: Client, video: DemoVideo, job_id: str, bar: Progress, row: TaskID) -> None:
    def report(job: Job) -> None:
        bar.update(row, completed=job.percent, description=f"{video.path.name}: {job.stage}")

    job = client.wait(job_id, report, timeout_s=JOB_TIMEOUT_S)
    if job.state != "succeeded":
        raise PixserveError(f"ingest of {video.path.name} {job.state}: {job.error or 'no reason'}")
    bar.update(row, completed=100, description=f"{video.path.name}: ready")


def _tell_speed(fresh: Sequence[DemoVideo], total: int, wall_s: float) -> None:
    if not fresh:
        console.print(f"[green]✓[/] all {total} videos were indexed by an earlier run")
        return
    seconds = sum(video.duration_s for video in fresh)
    console.print(
        f"[green]✓[/] {len(fresh)} videos indexed: {seconds:.0f} s of video in {wall_s:.1f} s, "
        f"[bold]{seconds / wall_s:.0f} seconds of video a second[/]"
    )


def _tell_how_to_go_on(address: str, data_dir: Path) -> None:
    command = _command_here()
    console.print(
        f"\n[bold]Go on[/]\n"
        f"  search         {address}/v1/search?q=why+do+eruptions+cancel+flights\n"
        f"  the API        {address}/docs\n"
        f"  health         {address}/health/ready\n"
        f"  by hand        {command} search 'coping with stage fright' --url {address}\n"
        f"  your videos    {command} ingest my-video.mp4 --title 'My video' --url {address}\n"
        f"  data and logs  {data_dir}\n",
        soft_wrap=True,
    )


def _command_here() -> str:
    """Return what to type for `pixserve` in this shell."""
    command = Path(sys.executable).with_name("pixserve")
    if which("pixserve") == str(command):
        return "pixserve"
    inside = command.is_relative_to(Path.cwd())
    return str(command.relative_to(Path.cwd()) if inside else command)


def _bar() -> Progress:
    columns = (TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn())
    return Progress(*columns, console=console, transient=True)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(
    once: Annotated[bool, typer.Option("--once", help="Stop after the output.")] = False,
    data_dir: Annotated[Path, typer.Option(help="Where everything goes.")] = Path(".demo"),
    port: Annotated[int, typer.Option(help="Port of the gateway.", min=1, max=65_535)] = 8080,
) -> None:
    """Render videos, bring the stack up, ingest them, search, and stay up until Ctrl-C."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        run(data_dir, port, once=once)
    except PixserveError as error:
        sys.exit(f"demo: {error}")
    except OSError as error:
        sys.exit(f"demo: {error.filename or 'input or output'}: {os.strerror(error.errno or 0)}")
    except KeyboardInterrupt:
        sys.exit(0)


if __name__ == "__main__":
    typer.run(main)
