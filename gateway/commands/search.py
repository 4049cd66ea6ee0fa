"""`pixserve search`."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.terminal import DEFAULT_URL, Url, clock, connect, shown
from gateway.errors import InvalidRequest

if TYPE_CHECKING:
    from rich.console import Console

    from ensembles.bundle import Intent
    from gateway.schemas import Hit, Moment, SearchReply

LEAST_TOLD = 0.05  # probability of what words ask for that --explain shows

EXAMPLES = """Find moments by words, an image, a sound, a clip or a segment; -word excludes a word.

[bold]Examples[/bold]

pixserve search "how to fold the dough"

pixserve search --image frame.jpg --limit 3

pixserve search --clip holiday.mp4

pixserve search "rise overnight" --image loaf.jpg --mode text_heavy

pixserve search "dough -oven" --tag bread --min-pix 100 --group segment --explain

pixserve search "guitar" --not "electric guitar" --language en --since 2026-01-01

pixserve search --like VIDEO-000005000 --other-videos
"""


class Mode(StrEnum):
    """How words, pixels and sounds weigh."""

    auto = "auto"
    balanced = "balanced"
    vision_heavy = "vision_heavy"
    text_heavy = "text_heavy"
    audio_heavy = "audio_heavy"


class FusionRule(StrEnum):
    """How the legs are brought together."""

    weighted = "weighted"
    rrf = "rrf"
    minmax = "minmax"


class Sort(StrEnum):
    """The order of the hits that are relevant."""

    relevance = "relevance"
    date = "date"
    pix = "pix"


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
    clip: Annotated[
        Path | None, typer.Option(help="An MP4, WebM or MKV file of at most 30 s.")
    ] = None,
    away: Annotated[
        str | None, typer.Option("--not", help="A text whose meaning is taken away.")
    ] = None,
    like: Annotated[str | None, typer.Option(help="A segment's id: find more like it.")] = None,
    other_videos: Annotated[
        bool, typer.Option("--other-videos", help="Nothing of the video of --like.")
    ] = False,
    mode: Annotated[Mode, typer.Option(help="How words, pixels, sounds weigh.")] = Mode.auto,
    limit: Annotated[int, typer.Option(help="Entries in the result.", min=1, max=100)] = 10,
    group: Annotated[Group, typer.Option(help="What an entry is.")] = Group.video,
    category: Annotated[str | None, typer.Option(help="Only of this category.")] = None,
    creator: Annotated[str | None, typer.Option(help="Only of this creator.")] = None,
    tag: Annotated[list[str] | None, typer.Option(help="Only with this tag. Repeatable.")] = None,
    language: Annotated[str | None, typer.Option(help="Only in this language, as en.")] = None,
    min_pix: Annotated[int | None, typer.Option(help="Only with this much PIX.", min=0)] = None,
    since: Annotated[datetime | None, typer.Option(help="Only uploaded then or later.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only uploaded earlier.")] = None,
    deadline_ms: Annotated[
        int | None, typer.Option(help="How long it may take.", min=1, max=60_000)
    ] = None,
    pix_weight: Annotated[
        float | None, typer.Option(help="What if PIX weighed so much?", min=0, max=0.5)
    ] = None,
    fusion_rule: Annotated[
        FusionRule, typer.Option(help="How the legs are brought together.")
    ] = FusionRule.weighted,
    cutoff: Annotated[
        float | None,
        typer.Option(help="The least evidence of the surest hit; others: half.", min=0, max=1),
    ] = None,
    show_cut: Annotated[bool, typer.Option(help="Also show what was cut off.")] = False,
    collapse: Annotated[bool, typer.Option(help="Show copies once.")] = False,
    diversity: Annotated[float, typer.Option(help="Of the hits.", min=0, max=1)] = 0.0,
    sort: Annotated[Sort, typer.Option(help="Of the relevant hits.")] = Sort.relevance,
    cursor: Annotated[str | None, typer.Option(help="For the next page, as printed.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the reply as JSON.")] = False,
    explain: Annotated[bool, typer.Option(help="Show how each score came about.")] = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Find moments by words, by an image, by a sound or by a clip."""
    import msgspec

    from gateway.schemas import Filters, SearchRequest

    if (words, image, audio, clip, like) == (None,) * 5:
        raise InvalidRequest(
            "nothing to look for: give words, --image FILE, --audio FILE, --clip FILE or "
            "--like SEGMENT"
        )
    request = SearchRequest(
        query=words,
        not_=away,
        like=like,
        own_video=not other_videos,
        deadline_ms=deadline_ms,
        image=_file(image),
        audio=_file(audio),
        clip=_file(clip),
        mode=mode.value,
        limit=limit,
        group=group.value,
        pix_weight=pix_weight,
        fusion_rule=fusion_rule.value,
        cutoff=cutoff,
        show_cut=show_cut,
        collapse=collapse,
        diversity=diversity,
        sort=sort.value,
        cursor=cursor,
        filters=Filters(
            category=(category,) if category else (),
            creator_id=(creator,) if creator else (),
            tags=tuple(tag or ()),
            language=(language,) if language else (),
            min_pix=min_pix,
            created_after=since and since.astimezone(),
            created_before=until and until.astimezone(),
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
    """Print a block a hit: its video, then a line a moment; a terminal's lines are cut to fit."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for rank, hit in enumerate(reply.hits, start=1):
        _print_hit(console, rank, hit, explain)
    if not reply.hits:
        console.print("Nothing matches.")
    if reply.cut:
        console.print(f"Cut off, with less evidence than {reply.cutoff:g}:")
    for rank, hit in enumerate(reply.cut, start=1):
        _print_hit(console, rank, hit, explain)
    if explain and reply.intents:
        console.print(f"the words ask for {_asked_for(reply.intents)}", style="dim")
    if reply.next:
        console.print(f"more with: --cursor {reply.next}", soft_wrap=True)
    for reason in reply.degraded:
        console.print(Text("left out: ", "yellow") + shown(reason), soft_wrap=True)
    times = reply.stage_ms
    console.print(
        f"{times.total:.1f} ms (embed {times.embed:.1f}, legs {times.legs:.1f}, catalogue "
        f"{times.catalogue:.1f}, gateway {times.gateway:.1f}), bundle {reply.model_version}",
        style="dim",
        soft_wrap=True,
    )


def _asked_for(intents: "Mapping[Intent, float]") -> str:
    """Say what words ask for, the most probable first; what is hardly probable is left out."""
    likely = sorted(intents.items(), key=lambda one: -one[1])
    return ", ".join(f"{name} {share:.0%}" for name, share in likely if share >= LEAST_TOLD)


def _print_hit(console: "Console", rank: int, hit: "Hit", explain: bool) -> None:
    from rich.text import Text

    whole = not console.is_terminal  # a file or a pipe gets whole lines
    pix = f"{hit.moments[0].parts.pix:,} PIX"
    head = Text(f"{rank:>2}  ").append_text(Text(shown(hit.title).plain, "bold"))
    console.print(head, Text(f"{hit.video_id}  {pix}", "dim"), sep="  ", soft_wrap=True)
    for moment in hit.moments:
        when = f"{clock(moment.start_s)}–{clock(moment.end_s)}"
        line = Text(f"    {when:<15}  {moment.score:.3f}  ") + shown(moment.text)
        console.print(line, no_wrap=True, overflow="ignore" if whole else "ellipsis", crop=False)
        if explain:
            for part in _explained(moment):
                console.print(Text(" " * 21 + part, "dim"), soft_wrap=True)


def _explained(moment: "Moment") -> Iterator[str]:
    """Yield the arithmetic of a score in the order in which it is done, a line a step."""
    parts = moment.parts
    for leg in parts.legs:
        yield (
            f"{leg.leg:<9} {leg.part:.3f}  (weight {leg.weight:.2f}, strength {leg.strength:.3f}, "
            f"relevance {leg.relevance:.3f}, raw {leg.raw:.3f}, rank {leg.rank})"
        )
    yield f"sum       {parts.fusion:.3f}, neighbours +{parts.coherence:.3f}"
    yield f"relevance {parts.relevance:.3f}, evidence {parts.evidence:.3f}"
    boost = f"1 + {parts.pix_weight:.2f} × {parts.pix_gain:.3f}, cap {parts.pix_cap:,} PIX"
    yield f"PIX       × {1 + parts.pix_boost:.3f}  ({boost})"
    yield f"score     {moment.score:.3f}: rank {parts.rank}, without PIX {parts.rank_without_pix}"
