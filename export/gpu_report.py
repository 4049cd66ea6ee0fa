"""The results of the GPU check as JSON and Markdown. Pure."""

from collections.abc import Sequence
from typing import Final, Literal

import msgspec

from gateway.errors import PixserveError

OK: Final = "ok"
FAILED: Final = "failed"
SKIPPED: Final = "skipped"
EXIT_OK = 0
EXIT_FAILED = 1
EXIT_NO_GPU = 3
EXIT_INCOMPLETE = 4  # nothing failed, but something could not run: a package is missing

Figure = str | float | int
Row = dict[str, Figure]


class Skipped(PixserveError):  # noqa: N818 (says what happened)
    """A step cannot run here; its message says what is missing."""


class StepResult(msgspec.Struct, frozen=True):
    """What one step of the check found."""

    name: str
    state: Literal["ok", "failed", "skipped"]
    rows: list[Row] = []  # one table
    detail: str = ""  # why it failed or was skipped
    seconds: float = 0.0


class Report(msgspec.Struct, frozen=True):
    """All of one run."""

    machine: str
    date: str
    steps: list[StepResult]


def exit_code(steps: Sequence[StepResult]) -> int:
    """Return the check's exit code: a failed step counts for more than a skipped one."""
    states = {step.state for step in steps}
    if FAILED in states:
        return EXIT_FAILED
    return EXIT_INCOMPLETE if SKIPPED in states else EXIT_OK


def markdown(report: Report) -> str:
    """Return the report as a page: each step with its state, its figures, and why it failed."""
    lines = ["# GPU check", "", f"{report.machine}, {report.date}", ""]
    lines += ["| step | state | seconds |", "|---|---|---|"]
    lines += [f"| {step.name} | {step.state} | {step.seconds:.0f} |" for step in report.steps]
    for step in report.steps:
        lines += ["", f"## {step.name}: {step.state}", ""]
        if step.detail:
            lines += [*(f"    {line}" for line in step.detail.splitlines()), ""]
        lines += _table(step.rows)
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[Row]) -> list[str]:
    if not rows:
        return []
    columns = list(dict.fromkeys(name for row in rows for name in row))
    return [
        f"| {' | '.join(columns)} |",
        f"|{'---|' * len(columns)}",
        *(f"| {' | '.join(_shown(row.get(name, '')) for name in columns)} |" for row in rows),
    ]


def _shown(figure: Figure) -> str:
    text = f"{figure:.5g}" if isinstance(figure, float) else str(figure)
    return text.replace("|", "\\|").replace("\n", " ")
