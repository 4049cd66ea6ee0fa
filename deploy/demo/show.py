"""The demo's example searches, asked of a running gateway and printed as tables."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import msgspec
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from deploy.demo.corpus import QUERIES
from deploy.demo.render import DemoVideo
from deploy.demo.topics import ImageQuery, PixQuery, TextQuery, read_queries
from gateway.client import Client
from gateway.errors import InvalidRequest
from gateway.schemas import Hit, LegWeights, SearchReply, SearchRequest

SHOWN = 10  # paraphrases in the table, of different videos; all of them are counted
FIRST_MOMENTS = 3  # the right moment counts when it is among this many
DEADLINE_MS = 1_000  # the example searches measure answers, not latency


@dataclass(frozen=True)
class Verdict:
    """The answer to an example search, and whether it is the right one."""

    query: TextQuery
    first: Hit | None
    right_video: bool  # the right video came first
    right_moment: bool  # the right moment was among the first `FIRST_MOMENTS` segments
    total_ms: float
    degraded: tuple[str, ...]  # legs that were left out, and why


def judge(client: Client, query: TextQuery, right_id: str) -> Verdict:
    """Ask a query and compare the answer with what the queries file says.

    Args:
        client: of the gateway that has the demo videos.
        query: the words and the moment that answers them.
        right_id: the id of the video `query.video`.
    """
    request = SearchRequest(query=query.text, limit=FIRST_MOMENTS, deadline_ms=DEADLINE_MS)
    videos = client.search(request)
    segments = client.search(msgspec.structs.replace(request, group="segment"))
    first = videos.hits[0] if videos.hits else None
    return Verdict(
        query=query,
        first=first,
        right_video=first is not None and first.video_id == right_id,
        right_moment=any(
            hit.video_id == right_id and query.is_answered_by(hit.start_s, hit.end_s)
            for hit in segments.hits
        ),
        total_ms=videos.stage_ms.total,
        degraded=videos.degraded,
    )


def frame_png(path: Path, time_s: float) -> bytes:
    """Return the frame of a video that is shown at `time_s`, as PNG bytes."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        container.seek(int(time_s * 1_000_000))
        frame = next(f for f in container.decode(stream) if (f.time or 0.0) >= time_s)
        image = io.BytesIO()
        with av.open(image, "w", format="image2pipe") as output:
            still = output.add_stream("png", rate=1)
            still.width, still.height, still.pix_fmt = frame.width, frame.height, "rgb24"
            picture = frame.reformat(format="rgb24")
            picture.pts = 0
            output.mux(still.encode(picture))
            output.mux(still.encode(None))
    return image.getvalue()


def show_examples(
    console: Console, client: Client, videos: Mapping[str, DemoVideo], ids: Mapping[str, str]
) -> None:
    """Ask all example searches and print what came.

    Args:
        console: where to.
        client: of the gateway that has the demo videos.
        videos: the demo videos by name.
        ids: their ids by name.
    """
    queries = read_queries()
    paraphrases = [judge(client, query, ids[query.video]) for query in queries.paraphrase]
    one_a_video = list({v.query.video: v for v in reversed(paraphrases)}.values())[::-1]
    _show_texts(console, "Other words than the transcript's", one_a_video[:SHOWN])
    _tell_counts(console, paraphrases)
    keywords = [judge(client, query, ids[query.video]) for query in queries.keyword]
    _show_texts(console, "Rare words of the transcripts", keywords)
    _show_made_up(console, client, ids)
    console.print(_image_table(client, queries.image, videos, ids))
    console.print(_pix_table(client, queries.pix, videos, ids))
    console.print(
        "score = relevance × (1 + β·g), where g grows with the logarithm of a video's PIX from 0 "
        "to 1 and β is 0.2: PIX lifts a hit by a fifth at most.",
        style="dim",
    )


def _show_made_up(console: Console, client: Client, ids: Mapping[str, str]) -> None:
    """Ask for pictures and sounds in words, where the models can compare them."""
    if not _compares_pixels(client):
        console.print(
            "\nThese models compare no words with pixels: pictures are found by pictures."
        )
        return
    verdicts = [judge(client, query, ids[query.video]) for query in QUERIES]
    _show_texts(console, "Pictures and sounds in words: nothing is said there", verdicts)


def _compares_pixels(client: Client) -> bool:
    try:
        client.search(SearchRequest(query=QUERIES[0].text, weights=LegWeights(visual=1.0), limit=1))
    except InvalidRequest:  # no leg with a weight can answer words
        return False
    return True


def _show_texts(console: Console, title: str, verdicts: Sequence[Verdict]) -> None:
    """Print three lines an answer: the query, the moment, what is said there."""
    console.print(f"\n[bold]{escape(title)}[/]")
    for verdict in verdicts:
        right = verdict.right_video and verdict.right_moment
        console.print(f"[{'green]✓' if right else 'yellow]✗'}[/] {escape(verdict.query.text)}")
        if verdict.first is None:
            console.print("        [dim]nothing matches[/]")
            continue
        hit = verdict.first
        text = hit.moments[0].text if hit.moments else ""
        for line in (
            f"  {hit.score:.2f}  [bold]{escape(hit.title)}[/], {_moment(hit)}",
            f"        [dim]{escape(text)}[/]",
        ):
            console.print(line, no_wrap=True, overflow="ellipsis", highlight=False)


def _moment(hit: Hit) -> str:
    return f"{_clock(hit.start_s)}–{_clock(hit.end_s)}"


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02}"


def _tell_counts(console: Console, verdicts: Sequence[Verdict]) -> None:
    videos = sum(verdict.right_video for verdict in verdicts)
    moments = sum(verdict.right_moment for verdict in verdicts)
    times = sorted(verdict.total_ms for verdict in verdicts)
    console.print(
        f"Of {len(verdicts)} such queries [bold]{videos}[/] have the right video first and "
        f"[bold]{moments}[/] the right moment among the first {FIRST_MOMENTS}; "
        f"half of them took less than {times[len(times) // 2]:.0f} ms."
    )
    missing = sorted({reason for verdict in verdicts for reason in verdict.degraded})
    if missing:
        console.print(f"[yellow]Degraded:[/] {escape('; '.join(missing))}")


def _image_table(
    client: Client,
    query: ImageQuery,
    videos: Mapping[str, DemoVideo],
    ids: Mapping[str, str],
) -> Table:
    image = frame_png(videos[query.video].path, query.time_s)
    reply = client.search(SearchRequest(image=image, limit=FIRST_MOMENTS))
    asked = f"A frame of “{videos[query.video].metadata.title}” at {_clock(query.time_s)}"
    table = _table(asked, "rank", "video", "moment", "score", "")
    for rank, hit in enumerate(reply.hits, 1):
        right = hit.video_id == ids[query.video]
        mark = "[green]✓[/]" if right and hit.start_s <= query.time_s < hit.end_s else ""
        table.add_row(str(rank), escape(hit.title), _moment(hit), f"{hit.score:.2f}", mark)
    return table


def _pix_table(
    client: Client,
    query: PixQuery,
    videos: Mapping[str, DemoVideo],
    ids: Mapping[str, str],
) -> Table:
    """Search, invest, search again; the investment's key makes it count once, however often run."""
    raised = ids[query.raised]
    invested_before = client.video(raised).pix > videos[query.raised].metadata.pix
    states = [("no PIX counted", _search_pix(client, query, pix_weight=0.0))]
    if not invested_before:
        states.append(("as they were", _search_pix(client, query)))
    client.invest(raised, query.invest_pix, query.key)
    when = " (by an earlier run)" if invested_before else ""
    states.append((f"{query.invest_pix} PIX invested{when}", _search_pix(client, query)))
    title = videos[query.raised].metadata.title
    table = _table(
        f"“{query.text}”, and an investment in “{title}”",
        *("PIX", "rank", "video", "its PIX", "relevance", "boost", "score"),
    )
    for state, reply in states:
        _add_pix_rows(table, state, reply, raised)
    return table


def _search_pix(client: Client, query: PixQuery, pix_weight: float | None = None) -> SearchReply:
    return client.search(
        SearchRequest(query=query.text, limit=2, pix_weight=pix_weight, deadline_ms=DEADLINE_MS)
    )


def _add_pix_rows(table: Table, state: str, reply: SearchReply, raised: str) -> None:
    for rank, hit in enumerate(reply.hits, 1):
        parts = hit.moments[0].parts
        style = "bold" if hit.video_id == raised else None
        table.add_row(
            state if rank == 1 else "",
            str(rank),
            escape(hit.title),
            str(parts.pix),
            f"{parts.relevance:.3f}",
            f"+{parts.pix_boost:.1%}",
            f"{hit.score:.3f}",
            style=style,
        )
    table.add_section()


def _table(title: str, *columns: str) -> Table:
    table = Table(title=f"\n{escape(title)}", title_justify="left", title_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table
