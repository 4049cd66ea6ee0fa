"""The API's description as one page: no scripts, no fonts, nothing from elsewhere, so it works
without a network.
"""

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

# Sent with the page: it may load nothing and run nothing.
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"

CODE = re.compile(r"`([^`]+)`")

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
h1 small, .status { font-weight: normal; opacity: .7; }
code, pre { font: 14px/1.45 ui-monospace, monospace; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; border-radius: 6px; }
details { border: 1px solid var(--line); border-radius: 6px; margin: .5rem 0; padding: .5rem 1rem; }
summary { cursor: pointer; }
table { border-collapse: collapse; width: 100%; }
td, th { border-bottom: 1px solid var(--line); padding: .3rem .5rem; text-align: left; }
.method { display: inline-block; width: 4.5rem; font-weight: bold; }
"""


def render(document: Mapping[str, Any]) -> str:
    """Return an OpenAPI document as HTML; every text in it is escaped."""
    info = document["info"]
    operations = (
        _operation(method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    )
    schemas = (_schema(name, body) for name, body in document["components"]["schemas"].items())
    return "".join(
        (
            "<!doctype html><html lang=en><meta charset=utf-8>",
            '<meta name=viewport content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}: API</title><style>{_STYLE}</style>",
            f"<h1>{escape(info['title'])} <small>{escape(info['version'])}</small></h1>",
            f"<p>{_text(info['description'])}</p>",
            "<p><a href=/openapi.json>openapi.json</a></p>",
            "<h2>Routes</h2>",
            *operations,
            "<h2>Schemas</h2>",
            *schemas,
            "</html>",
        )
    )


def _text(text: str) -> str:
    """Return a text as HTML, with what stands between backticks as code."""
    return CODE.sub(r"<code>\1</code>", escape(text))


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    bodies = operation.get("requestBody", {}).get("content", {})
    return "".join(
        (
            f"<details id={escape(operation['operationId'])}><summary>",
            f"<code><span class=method>{escape(method.upper())}</span> {escape(path)}</code> ",
            f"{_text(operation['summary'])}</summary>",
            _parameters(operation["parameters"]),
            *(_body(kind, content["schema"]) for kind, content in bodies.items()),
            *(_response(status, told) for status, told in operation["responses"].items()),
            "</details>",
        )
    )


def _parameters(parameters: Iterable[Mapping[str, Any]]) -> str:
    rows = "".join(
        f"<tr><td><code>{escape(told['name'])}</code><td>{escape(told['in'])}"
        f"<td><code>{escape(json.dumps(told['schema']))}</code>"
        for told in parameters
    )
    return f"<table><tr><th>Parameter<th>In<th>Schema{rows}</table>" if rows else ""


def _body(kind: str, schema: Mapping[str, Any]) -> str:
    return f"<p>Body <code>{escape(kind)}</code>: {_type(schema)}</p>"


def _response(status: str, told: Mapping[str, Any]) -> str:
    types = ", ".join(
        _type(content["schema"]) if "schema" in content else f"<code>{escape(kind)}</code>"
        for kind, content in told.get("content", {}).items()
    )
    return f"<p class=status>{escape(status)} {escape(told['description'])}: {types}</p>"


def _type(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2])
        return f"<a href=#{name}>{name}</a>"
    return f"<pre>{escape(json.dumps(schema, indent=1))}</pre>"


def _schema(name: str, body: Mapping[str, Any]) -> str:
    return (
        f"<details id={escape(name)}><summary><code>{escape(name)}</code> "
        f"{_text(body.get('description', ''))}</summary>"
        f"<pre>{escape(json.dumps(body, indent=1))}</pre></details>"
    )
