"""What the commands of the gateway's client share: where it is, and text that is safe to print."""

from typing import TYPE_CHECKING, Annotated

import typer

from gateway.errors import Unavailable

if TYPE_CHECKING:
    from rich.table import Column
    from rich.text import Text

    from gateway.client import Client

Url = Annotated[
    str, typer.Option(envvar="PIXSERVE_URL", help="Where the gateway is.", show_default=True)
]
VIDEO_ID_CHARS = 16
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


def video_column() -> "Column":
    """Return a table's column of video ids, which are to be copied and so never cut off."""
    from rich.table import Column

    return Column("video", no_wrap=True, overflow="ignore", min_width=VIDEO_ID_CHARS)


def clock(seconds: float) -> str:
    """Return a moment as a player shows it, e.g. 1:02:03.4 or 0:07.0."""
    minutes, rest = divmod(round(seconds, 1), 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
