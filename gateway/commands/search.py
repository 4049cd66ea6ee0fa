"""`pixserve search`."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.terminal import DEFAULT_URL, Url, clock, connect, shown, video_column
from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from gateway.schemas import Moment, SearchReply

TEXT_CHARS = 120  # of a moment's transcript in the table
EXAMPLES = """Find moments by words, by an image or by a sound.

[bold]Examples[/bold]

  pixserve search "how to fold the dough"

  pixserve search --image frame.jpg --limit 3

  pixserve search "guitar solo" --mode audio_heavy --group segment

  pixserve search "dough" --tag bread --min-pix 100 --explain
"""


class Mode(StrEnum):
    """How words, pixels and sounds weigh."""

    balanced = "balanced"
    vision_heavy = "vision_heavy"
    text_heavy = "text_heavy"
    audio_heavy = "audio_heavy"


class Group(StrEnum):
    """What an entry of the result is."""

    video = "video"
    segment = "segment"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("search", help=EXAMPLES)(search)


def search(
    words: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    image: Annotated[Path | None, typer.Option(help="A JPEG, PNG or WebP file.")] = None,
    audio: Annotated[Path | None, typer.Option(help="A sound file of at most 30 s.")] = None,
    mode: Annotated[Mode, typer.Option(help="How words, pixels, sounds weigh.")] = Mode.balanced,
    limit: Annotated[int, typer.Option(help="Entries in the result.", min=1, max=100)] = 10,
    group: Annotated[Group, typer.Option(help="What an entry is.")] = Group.video,
    category: Annotated[str | None, typer.Option(help="Only of this category.")] = None,
    creator: Annotated[str | None, typer.Option(help="Only of this creator.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag. Repeatable.")] = None,
    min_pix: Annotated[int | None, typer.Option(help="Only with this much PIX.", min=0)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")] = False,
    explain: Annotated[bool, typer.Option(help="Show how each score came about.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Find moments by words, by an image or by a sound."""
    import msgspec

    from gateway.schemas import Filters, SearchRequest

    if words is None and image is None and audio is None:
        raise InvalidRequest("nothing to look for: give words, --image FILE or --audio FILE")
    request = SearchRequest(
        query=words,
        image=_file(image),
        audio=_file(audio),
        mode=mode.value,
        limit=limit,
        group=group.value,
        filters=Filters(
            category=(category,) if category else (),
            creator_id=(creator,) if creator else (),
            tags=tuple(tag or ()),
            min_pix=min_pix,
        ),
    )
    with connect(url) as client:
        reply = client.search(request)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(reply), indent=2).decode())
        return
    _print(reply, explain)


def _file(path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from error


def _print(reply: "SearchReply", explain: bool) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    table = Table("", video_column(), "moment", "score", "PIX", "what is said there")
    for rank, hit in enumerate(reply.hits, start=1):
        for first, moment in enumerate(hit.moments):
            table.add_row(
                "" if first else str(rank),
                "" if first else shown(hit.title) + Text(f"\n{hit.video_id}", "dim"),
                f"{clock(moment.start_s)}–{clock(moment.end_s)}",
                f"{moment.score:.3f}",
                "" if first else f"{moment.parts.pix:,}",
                shown(moment.text[:TEXT_CHARS]),
            )
            if explain:
                table.add_row("", "", "", "", "", _explained(moment), style="dim")
    console.print(table if reply.hits else "Nothing matches.")
    for reason in reply.degraded:
        console.print(Text("left out: ", "yellow") + shown(reason))
    times = reply.stage_ms
    console.print(
        f"{times.total:.1f} ms (embed {times.embed:.1f}, legs {times.legs:.1f}, catalogue "
        f"{times.catalogue:.1f}, gateway {times.gateway:.1f}), bundle {reply.model_version}",
        style="dim",
        highlight=False,
    )


def _explained(moment: "Moment") -> str:
    """Return the arithmetic of a score, in the order in which it is done."""
    parts = moment.parts
    legs = " + ".join(
        f"{leg.leg} {leg.weight:.2f}×{leg.relevance:.2f} (raw {leg.raw:.3f}, rank {leg.rank})"
        for leg in parts.legs
    )
    return (
        f"({legs} = {parts.fusion:.3f}; neighbours +{parts.coherence:.3f}) → relevance "
        f"{parts.relevance:.3f} × (1 + {parts.pix_weight:.2f} × g({parts.pix:,} of at most "
        f"{parts.pix_cap:,} PIX) {parts.pix_gain:.2f}) = {moment.score:.3f}"
    )
