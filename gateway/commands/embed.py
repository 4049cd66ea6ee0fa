"""`pixserve embed`."""

import signal
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.commands.terminal import shown
from gateway.errors import ConfigurationError, InvalidRequest

if TYPE_CHECKING:
    from gateway.batch_files import Summary

MAX_ERRORS_SHOWN = 20
T = TypeVar("T")
EXAMPLES = """Embed every line of a file, or every image of a folder, straight through Triton.

[bold]Examples[/bold]

  pixserve embed texts.txt --out embeddings.npy

  pixserve embed questions.txt --role query --out questions.parquet

  pixserve embed captions.txt --encoder clip --out captions.npy

  pixserve embed images/ --out images.parquet --triton gpu-1:8001

One row a line or image, in their order. What cannot be embedded keeps its row, filled with NaN, and
is listed; .parquet also has the reasons. Exit code 1: some could not be embedded.
"""


class Role(StrEnum):
    """What the texts are."""

    query = "query"
    passage = "passage"


class TextEncoder(StrEnum):
    """Which encoder reads the texts."""

    sentence = "sentence"
    clip = "clip"
    sound_text = "sound_text"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("embed", help=EXAMPLES)(embed)


def embed(
    source: Annotated[Path, typer.Argument(help="A file of one text a line, or a folder.")],
    out: Annotated[Path, typer.Option(help="Ends in .npy or .parquet; is replaced.")],
    role: Annotated[
        Role, typer.Option(help="What the texts are, for the sentence encoder.")
    ] = Role.passage,
    encoder: Annotated[
        TextEncoder,
        typer.Option(
            help="sentence: to find texts. clip: images. sound_text: sounds, with a CLAP profile."
        ),
    ] = TextEncoder.sentence,
    triton: Annotated[
        str, typer.Option(help="HOST:PORT (gRPC). Default: that of the running stack.")
    ] = "",
    data_dir: Annotated[
        Path, typer.Option(envvar="PIXSERVE_DATA_DIR", help="Of the running stack.")
    ] = Path("pixserve-data"),
    in_flight: Annotated[int, typer.Option(help="Calls at once.", min=1, max=64)] = 4,
    batch: Annotated[int, typer.Option(help="Items a call, at most.", min=1, max=64)] = 32,
    json: Annotated[bool, typer.Option("--json", help="The summary as JSON.")] = False,
) -> None:
    """Embed every line of a file, or every image of a folder."""
    from gateway.batch import Limits
    from gateway.batch_files import embed_images, embed_texts

    address, profile = (triton, "") if triton else _stack(data_dir)
    limits = Limits(in_flight=in_flight, batch=batch)
    with _progress(source) as progress:
        if source.is_dir():
            if encoder is not TextEncoder.sentence:
                raise InvalidRequest("--encoder is for texts; images have one encoder")
            job = embed_images(
                source, out, address, profile=profile, limits=limits, progress=progress
            )
        else:
            job = embed_texts(
                source,
                out,
                address,
                kind=encoder.value,
                role=role.value,
                profile=profile,
                limits=limits,
                progress=progress,
            )
        summary = _run(job)
    _show(summary, as_json=json)
    raise typer.Exit(1 if summary.failed else 0)


def _stack(data_dir: Path) -> tuple[str, str]:
    """Return the address of the running stack's Triton, and the stack's profile."""
    from deploy.state import read_state

    state = read_state(data_dir.expanduser().resolve() / "run")
    if state is None:
        raise ConfigurationError(
            f"no stack runs on {data_dir}: pixserve up --detach --data-dir {data_dir}, or name a "
            "Triton with --triton HOST:PORT"
        )
    return state.part("triton").address, state.profile


def _run(job: Coroutine[Any, Any, T]) -> T:
    """Run a job that SIGTERM ends as Ctrl-C does: its unfinished output is removed.

    The task is cancelled. A signal's handler that raised would do so wherever the main thread is,
    and gRPC's callbacks ignore what is raised in them.
    """
    import asyncio

    async def terminable() -> T:
        task = asyncio.current_task()
        assert task
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await job

    try:
        return asyncio.run(terminable())
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None


@contextmanager
def _progress(source: Path) -> Iterator[Callable[[int, int], None]]:
    """Show a bar with the rate on a terminal's standard error."""
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    rate = TextColumn("{task.fields[rate]}")
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), rate)
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    ) as bar:
        task = bar.add_task(shown(source.name).plain, total=None, rate="")

        def advance(done: int, total: int) -> None:
            per_s = bar.tasks[0].speed
            rate = f"{per_s:,.0f}/s" if per_s else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield advance


def _show(summary: "Summary", *, as_json: bool) -> None:
    import msgspec

    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(summary), indent=2))
        return
    for failure in summary.errors[:MAX_ERRORS_SHOWN]:
        name = f"line {failure.id}" if isinstance(failure.id, int) else failure.id
        typer.echo(shown(f"{name}: {failure.error}").plain, err=True)
    if summary.failed > MAX_ERRORS_SHOWN:
        typer.echo(f"… and {summary.failed - MAX_ERRORS_SHOWN:,} more", err=True)
    empty = f", {summary.empty:,} empty" if summary.empty else ""
    typer.echo(
        f"{summary.output}: {summary.count:,} rows of {summary.width} ({summary.embedded:,} "
        f"embedded{empty}, {summary.failed:,} failed) by {summary.ensemble}, "
        f"{summary.model_version}, in {summary.seconds:.1f} s: {summary.per_second:,.0f} a second"
    )
