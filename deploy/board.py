"""What `up` and `status` show of a stack."""

import time
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from rich.console import Console, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from deploy.parts import require_exported
from deploy.state import PartState, StackState
from ensembles.bundle import list_bundles
from gateway.settings import Settings

OFFLINE_PROFILES = ("mini",)  # exported without being asked: they need no download
REFRESH_PER_S = 8
PIPE_CHARS = 400  # of a line that no terminal shows
COLOURS = {
    "ready": "green",
    "external": "green",
    "starting": "yellow",
    "restarting": "red",
    "failed": "red",
}


class Board:
    """Shows a stack coming up, a line a part, then what changes.

    On a terminal the lines are redrawn until all parts are ready; elsewhere each change is one
    printed line. `hint` stands under the last of them.
    """

    def __init__(self, out: TextIO, hint: str) -> None:
        self._hint = hint
        self._console = Console(file=out, highlight=False, soft_wrap=True)
        self._live: Live | None = None
        self._started = time.monotonic()
        self._seen: dict[str, str] = {}
        self._ready = False

    def __enter__(self) -> "Board":
        if self._console.is_terminal:
            self._live = Live(console=self._console, refresh_per_second=REFRESH_PER_S)
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end_live()

    def __call__(self, state: StackState) -> None:
        """Show a state."""
        if self._live:
            self._live.update(_lines(state))
        else:
            self._print_changes(state)
        if state.ready and not self._ready:
            self._ready = True
            self._end_live()
            took_s = time.monotonic() - self._started
            self._console.print(f"ready in {took_s:.1f} s: [bold]{state.address}[/]")
            self._console.print(self._hint, style="dim")

    def _print_changes(self, state: StackState) -> None:
        for part in state.parts:
            if self._seen.get(part.name) != part.state:
                self._seen[part.name] = part.state
                self._console.print(f"{part.name}: {_state(part)} {escape(_facts(part))}".rstrip())

    def _end_live(self) -> None:
        if self._live:
            self._live.stop()
            self._live = None


def show_table(state: StackState) -> None:
    """Print a stack as `pixserve status` does."""
    table = Table(box=None, pad_edge=False)
    for heading in ("part", "state", "version", "address", "pid", "since"):
        table.add_column(heading, no_wrap=True)
    for part in state.parts:
        pid = str(part.pid or "")
        facts = (part.version, escape(part.address), pid, _since(part.since))
        table.add_row(part.name, _state(part), *facts)
    console = Console(highlight=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = max(console.width, PIPE_CHARS)
    console.print(table)
    for part in state.parts:
        if part.detail or part.restarts:
            told = filter(None, (_restarts(part.restarts), part.detail))
            console.print(f"{part.name}: {escape('; '.join(told))}")
    console.print(f"{state.profile} at {state.address}, supervisor pid {state.pid}")


def export_if_possible(settings: Settings) -> None:
    """Make the models to serve: bring an exported profile up to date, export an offline one.

    Raises:
        ConfigurationError: the profile must be exported first; the message says how.
    """
    from export.build import ensure_exported

    if settings.profile not in OFFLINE_PROFILES:
        require_exported(settings)
    exported = bool(list_bundles(settings.models_dir, settings.profile))
    console = Console(highlight=False)
    with console.status(f"exporting the profile {settings.profile}") as line:

        def show(what: str, done: int, total: int) -> None:
            line.update(f"exporting the profile {settings.profile}: {what} ({done}/{total})")

        bundle = ensure_exported(
            settings.profile,
            settings.models_dir,
            show,
            allow_random_weights=settings.allow_random_weights,
        )
    if not exported:
        console.print(f"exported {bundle.id}")


def _lines(state: StackState) -> RenderableType:
    lines = Table.grid(padding=(0, 2))
    for part in state.parts:
        lines.add_row(part.name, _state(part), escape(_facts(part)))
    return lines


def _state(part: PartState) -> str:
    return f"[{COLOURS[part.state]}]{part.state}[/]"


def _restarts(count: int) -> str:
    return {0: "", 1: "restarted once"}.get(count, f"restarted {count} times")


def _since(when: str) -> str:
    """Return the time of today's states and the day of older ones, both as this place counts."""
    local = datetime.fromisoformat(when).astimezone()
    today = datetime.now(UTC).astimezone().date()
    return f"{local:%H:%M:%S}" if local.date() == today else f"{local:%Y-%m-%d}"


def _facts(part: PartState) -> str:
    return part.detail or " ".join(filter(None, (part.version, part.address)))
