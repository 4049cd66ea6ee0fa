"""`pixserve audit`: how much PIX, creators, categories and length move results."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway.commands.terminal import DEFAULT_URL, Url, connect, shown
from gateway.errors import InvalidRequest, NotFound

if TYPE_CHECKING:
    from gateway.client import Client
    from gateway.schemas import Video
    from gateway.search.exposure import Audit, Placing, Seen

MAX_QUERIES = 10_000
LOOKED_AT = 100  # segments of each answer
DEADLINE_MS = 10_000  # of a search: what is found counts, not how fast

HELP = """Measure how much PIX, creators, categories and length move results.

[bold]Examples[/bold]

pixserve audit

pixserve audit --queries yesterday.txt --depth 20 --out audit.json

pixserve audit --pix-weight 0.5

Exposure is what a place is worth, 1 / log2(1 + rank), summed over all queries; beside each share is
what it would be were PIX worth nothing. Without --queries the demo's example searches are asked.
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("audit", help=HELP)(audit)


def audit(
    queries: Annotated[
        Path | None, typer.Option(help="A file of queries, one a line, such as a log's.")
    ] = None,
    depth: Annotated[int, typer.Option(help="Places that count.", min=1, max=100)] = 10,
    pix_weight: Annotated[
        float | None, typer.Option(help="β to rank with; by default the server's.", min=0, max=0.5)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Also write the report as JSON.")] = None,
    url: Url = DEFAULT_URL,
) -> None:
    """Ask all queries and show who is seen."""
    import msgspec

    from gateway.search import exposure

    texts = _queries(queries)
    with connect(url) as client:
        answers, weight, cap = _ask(client, texts, pix_weight)
        videos = _videos(client, {one.video_id for answer in answers for one in answer})
    report = exposure.audit(answers, videos, depth=depth, pix_weight=weight, pix_cap=cap)
    _print(report)
    if out is not None:
        out.write_bytes(msgspec.json.format(msgspec.json.encode(report)))


def _queries(path: Path | None) -> list[str]:
    if path is None:
        from deploy.demo.topics import read_queries

        demo = read_queries()
        return [query.text for query in (*demo.paraphrase, *demo.keyword)]
    try:
        texts = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except OSError as error:
        raise InvalidRequest(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{path} is not a text in UTF-8: {error.reason}") from error
    asked = [text for text in texts if text]
    if not 0 < len(asked) <= MAX_QUERIES:
        raise InvalidRequest(
            f"{path} has {len(asked):,} queries, 1 to {MAX_QUERIES:,} can be asked: one a line"
        )
    return asked


def _ask(
    client: "Client", texts: Sequence[str], pix_weight: float | None
) -> "tuple[list[list[Placing]], float, int]":
    """Return the placings of each answer, and the PIX weight and cap that they were ranked with."""
    from gateway.schemas import SearchRequest
    from gateway.search.exposure import placings

    answers, weight, cap = [], pix_weight or 0.0, 0
    for text in texts:
        request = SearchRequest(
            query=text,
            group="segment",
            limit=LOOKED_AT,
            pix_weight=pix_weight,
            deadline_ms=DEADLINE_MS,
        )
        hits = client.search(request).hits
        if hits:
            parts = hits[0].moments[0].parts
            weight, cap = parts.pix_weight, parts.pix_cap
        answers.append(placings(hits))
    return answers, weight, cap


def _videos(client: "Client", video_ids: set[str]) -> "dict[str, Video]":
    """Return the videos that are still there."""
    found = {}
    for video_id in sorted(video_ids):
        try:
            found[video_id] = client.video(video_id)
        except NotFound:
            continue
    return found


def _print(report: "Audit") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False)
    console.print(
        f"{report.queries} queries, {report.answered} with an answer; PIX weight "
        f"{report.pix_weight:g}, cap {report.pix_cap:,} PIX. PIX changed the first {report.depth} "
        f"places of {report.reordered}. PIX and places moved up correlate by "
        f"{report.rank_correlation:+.2f}.",
        soft_wrap=True,
    )
    for title, rows in (
        ("PIX", report.by_pix),
        ("creator", report.by_creator),
        ("category", report.by_category),
        ("length", report.by_length),
    ):
        table = Table(title=f"by {title}", title_justify="left")
        for column in (title, "videos", "exposure", "without PIX", "places up", "most up, down"):
            table.add_column(column)
        for row in rows:
            table.add_row(*_cells(row))
        console.print(table)


def _cells(row: "Seen") -> tuple[str, ...]:
    return (
        shown(row.group).plain,
        str(row.videos),
        f"{row.exposure:.1%}",
        f"{row.exposure_without_pix:.1%}",
        f"{row.rank_change:+.2f}",
        f"{row.most_places_up}, {row.most_places_down}",
    )
