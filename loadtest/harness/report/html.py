"""One self-contained page: no script, no network, readable offline and on paper. Pure."""

from collections.abc import Sequence
from html import escape

from loadtest.harness.report.charts import run_charts
from loadtest.harness.report.markdown import headline
from loadtest.harness.report.tables import Table, run_tables
from loadtest.harness.results import RunResult

STYLE = """
:root{--ink:#1d2430;--dim:#5b6676;--paper:#fff;--rule:#d9dee6;--band:#f6e3c8;--good:#1a7f4b;
--bad:#b3261e;--c0:#1f5fbf;--c1:#c2410c;--c2:#15803d;--c3:#6b7280;--c4:#a21caf;--c5:#0e7490}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--dim:#9aa5b4;--paper:#14181f;--rule:#303845;
--band:#4a3a20;--good:#4ade80;--bad:#f87171;--c0:#7fb0ff;--c1:#fb923c;--c2:#4ade80;--c3:#9ca3af;
--c4:#e879f9;--c5:#22d3ee}}
@media print{:root{--ink:#000;--dim:#444;--paper:#fff;--rule:#ccc;--band:#eee;--good:#060;
--bad:#900;--c0:#1f5fbf;--c1:#c2410c;--c2:#15803d;--c3:#6b7280;--c4:#a21caf;--c5:#0e7490}
figure,table{break-inside:avoid}body{padding:0}}
*{box-sizing:border-box}
body{margin:0 auto;padding:24px;max-width:1520px;background:var(--paper);color:var(--ink);
font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0}h2{font-size:17px;margin:32px 0 8px}p{margin:6px 0}
.verdict{font-size:18px;font-weight:600;padding:10px 14px;border-left:6px solid;margin:14px 0}
.verdict.held{border-color:var(--good);color:var(--good)}.verdict.broken,.verdict.invalid{border-color:var(--bad);color:var(--bad)}
.note{color:var(--dim);border-left:3px solid var(--rule);padding-left:10px}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(620px,100%),1fr));gap:20px}
figure{margin:0}figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}
.scroll{overflow-x:auto}table{border-collapse:collapse;font-variant-numeric:tabular-nums}
th,td{text-align:right;padding:4px 12px;border-bottom:1px solid var(--rule);vertical-align:top}
th{color:var(--dim);font-weight:500}
th:first-child,td:first-child,.plain th,.plain td{text-align:left}
td.held{color:var(--good)}td.broken{color:var(--bad);font-weight:700}
.legend{display:flex;flex-wrap:wrap;gap:2px 14px;color:var(--dim);font-size:12px}
.key{display:inline-block;width:24px;height:8px;margin-right:5px}
svg text{font:11px system-ui,sans-serif;fill:var(--dim)}
.grid{stroke:var(--rule)}line.level{stroke:var(--bad);stroke-dasharray:2 3}
text.level{fill:var(--bad)}
rect.mark{fill:var(--band)}svg text.mark{fill:var(--ink);font-size:10px}
path{fill:none;stroke-width:1.8}
.s0{stroke:var(--c0)}.s1{stroke:var(--c1);stroke-dasharray:6 2}
.s2{stroke:var(--c2);stroke-dasharray:2 2}.s3{stroke:var(--c3);stroke-dasharray:8 4}
.s4{stroke:var(--c4);stroke-dasharray:1 3}.s5{stroke:var(--c5);stroke-dasharray:10 3 2 3}
.dot{stroke-dasharray:none;fill:var(--paper)}
.b0{fill:var(--c0)}.b1{fill:var(--c1);fill-opacity:.75}
"""


def run_html(result: RunResult) -> str:
    """Return the report of a run."""
    body = [
        f"<h1>Load test: {escape(result.scenario.name)}</h1>",
        f"<p>{escape(result.scenario.summary)}</p>",
        _verdict(result.verdict, headline(result)),
        *(f'<p class="note">{escape(note)}</p>' for note in result.notes),
    ]
    tables = list(run_tables(result))
    body.append(table_html(tables[0]) if tables else "")
    body.append(f'<h2>Charts</h2><div class="charts">{"".join(run_charts(result))}</div>')
    body += [table_html(table) for table in tables[1:]]
    return page(f"Load test: {result.scenario.name}", body)


def document_html(
    title: str, verdict: str, told: str, tables: Sequence[Table], charts: Sequence[str]
) -> str:
    """Return a page of a verdict, charts and tables: for searches and comparisons."""
    body = [f"<h1>{escape(title)}</h1>", _verdict(verdict, told)]
    body.append(f'<div class="charts">{"".join(charts)}</div>')
    body += [table_html(table) for table in tables]
    return page(title, body)


def page(title: str, body: Sequence[str]) -> str:
    """Return a whole page."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def table_html(table: Table) -> str:
    """Return one table with its title."""
    plain = ' class="plain"' if len(table.columns) == 2 else ""
    head = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in table.rows)
    head_row = f"<thead><tr>{head}</tr></thead>" if any(table.columns) else ""
    return (
        f'<h2>{escape(table.title)}</h2><div class="scroll"><table{plain}>{head_row}'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _cell(text: str) -> str:
    kind = {"held": ' class="held"', "BROKEN": ' class="broken"'}.get(text, "")
    return f"<td{kind}>{escape(text)}</td>"


def _verdict(verdict: str, told: str) -> str:
    return f'<p class="verdict {escape(verdict)}">{escape(told)}</p>'
