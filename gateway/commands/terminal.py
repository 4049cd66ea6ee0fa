"""What the commands of the gateway's client share: where it is, and text that is safe to print."""

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway.errors import Unavailable

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from gateway.client import Client

Url = Annotated[
    str, typer.Option(envvar="PIXSERVE_URL", help="Where the gateway is.", show_default=True)
]
NUMBERS = frozenset({"length", "segments", "PIX"})  # columns of tables
NAMES = {"file": 2, "title": 2, "creator": 1}  # columns that give way, and their shares of the room
PIPE_CHARS = 400  # of a line that no terminal shows
DEFAULT_URL = "http://127.0.0.1:8080"


def connect(url: str) -> "Client":
    """Return a client of the gateway that runs there.

    Raises:
        Unavailable: none runs there; the message says how to start one.
    """
    from gateway.client import Client

    client = Client(url)
    try:
        client.ready()
    except Unavailable as error:
        client.close()
        raise Unavailable(
            "gateway", f"{error.message}; start one with: pixserve up, or name it with --url"
        ) from error
    return client


def shown(text: str) -> "Text":
    """Return a stranger's text for the terminal: no markup, no control characters."""
    from rich.text import Text

    return Text("".join(letter if letter.isprintable() else " " for letter in text))


def table_of(*columns: str) -> "Table":
    """Return a table of a line a row; names give way where there is no room, with an ellipsis.

    A column `video` holds ids, which are to be copied and so never cut off; `length`, `segments`
    and `PIX` are numbers.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
    for name in columns:
        justify: Literal["right", "left"] = "right" if name in NUMBERS else "left"
        table.add_column(name, no_wrap=True, justify=justify, ratio=NAMES.get(name))
    return table


def print_table(table: "Table") -> None:
    """Print a table as wide as the terminal; a file or a pipe gets it whole."""
    from rich.console import Console

    console = Console()
    table.expand = console.is_terminal
    if not console.is_terminal:
        console.width = max(console.width, PIPE_CHARS)
    console.print(table)


def clock(seconds: float) -> str:
    """Return a moment as a player shows it, e.g. 1:02:03.4 or 0:07.0."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
