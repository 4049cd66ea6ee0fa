"""A run, a search for capacity or a comparison as Markdown. Pure."""

from collections.abc import Sequence

from loadtest.harness.report.tables import Table, run_tables
from loadtest.harness.results import RunResult

HEADLINES = {
    "held": "HELD: every objective was kept",
    "broken": "BROKEN",
    "invalid": "INVALID: this run proves nothing",
}


def headline(result: RunResult) -> str:
    """Return the verdict in one line."""
    why = f": {'; '.join(result.why)}" if result.why else ""
    return HEADLINES[result.verdict] + why


def run_markdown(result: RunResult) -> str:
    """Return the summary of a run."""
    parts = [
        f"# Load test {result.scenario.name}",
        result.scenario.summary,
        f"**{headline(result)}**",
        *(f"> {note}" for note in result.notes),
        *(table_markdown(table) for table in run_tables(result)),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def table_markdown(table: Table) -> str:
    """Return one table with its title."""
    head = [f"| {' | '.join(map(_cell, table.columns))} |", f"|{'---|' * len(table.columns)}"]
    rows = [f"| {' | '.join(map(_cell, row))} |" for row in table.rows]
    return "\n".join([f"## {table.title}", "", *head, *rows])


def document(title: str, verdict: str, tables: Sequence[Table]) -> str:
    """Return a document of tables under a verdict."""
    parts = [f"# {title}", f"**{verdict}**", *(table_markdown(table) for table in tables)]
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
