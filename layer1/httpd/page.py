"""``/docs``: the OpenAPI document as one page for people, made here: no script, nothing from elsewhere.

*Safety:* the page runs nothing and loads nothing. Its policy allows its own style sheet, by hash, and links.

Everything on it comes from the document that ``/openapi.json`` serves, escaped; so it cannot drift from what is served.

Source: OpenAPI Specification 3.1; Content Security Policy Level 3, section 2.3 (hashes of inline styles).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from http import HTTPStatus
from typing import Any

Node = Mapping[str, Any]

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --accent: #2563a8; --post: #a85a12; }
@media (prefers-color-scheme: dark) { :root { --accent: #7db4ee; --post: #e0a060; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; display: grid;
  grid-template-columns: 19rem minmax(0, 1fr); }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.2rem; border-right: 1px solid var(--line);
  font-size: .86rem; }
nav ul { list-style: none; margin: .2rem 0 1rem; padding: 0; }
nav li { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
main { padding: 1.2rem 2.5rem 6rem; max-width: 62rem; }
h1 { margin: 0; line-height: 1.2; }
h2 { margin: 3rem 0 .5rem; padding-bottom: .2rem; border-bottom: 2px solid var(--line); }
h3 { margin: 0; font-size: 1.05rem; }
h4 { margin: 1rem 0 .2rem; font-size: .9rem; }
a { color: var(--accent); text-decoration: none; }
a:hover { text-decoration: underline; }
code, .path { font: .92em/1.5 ui-monospace, "DejaVu Sans Mono", monospace; overflow-wrap: anywhere; }
code { background: var(--soft); border-radius: 3px; padding: 0 .25em; }
section { margin: 1rem 0; padding: .9rem 1.1rem; border: 1px solid var(--line); border-radius: 8px;
  overflow-x: auto; }
section p { margin: .3rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line); }
th { font-weight: 600; border-top: 0; }
td:first-child { white-space: nowrap; }
.method { display: inline-block; min-width: 3.2rem; font-weight: 700; color: var(--accent); }
.post { color: var(--post); }
.soft { opacity: .75; }
@media (max-width: 55rem) { body { display: block; } nav { position: static; height: auto; border: 0; }
  main { padding: 1.2rem; } }
"""

POLICY = (
    "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    f"style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'"
)
"""Content-Security-Policy of the page: only the style sheet above, whatever might stand in the document."""


def page(document: Node) -> str:
    """The page of an OpenAPI document."""
    info = document["info"]
    operations = list(_operations(document))
    schemas: Node = document["components"]["schemas"]
    return "".join(
        (
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(info['title'])}: HTTP API</title><style>{STYLE}</style></head><body>",
            _navigation(operations, schemas),
            f'<main><h1>{escape(info["title"])}</h1><p class="soft">Version {escape(info["version"])}, ',
            f'{escape(info["license"]["name"])}; for programs: <a href="openapi.json">openapi.json</a></p>',
            _paragraphs(info["description"]),
            "<h2>Operations</h2>",
            *(_operation(method, path, operation) for method, path, operation in operations),
            "<h2>Schemas</h2>",
            *(_schema(name, schema) for name, schema in sorted(schemas.items())),
            "</main></body></html>\n",
        )
    )


def _operations(document: Node) -> Iterator[tuple[str, str, Node]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield method.upper(), path, operation


def _navigation(operations: Iterable[tuple[str, str, Node]], schemas: Node) -> str:
    listed = "".join(
        f'<li>{_method(method)} <a class="path" href="#{escape(operation["operationId"])}">{escape(path)}</a></li>'
        for method, path, operation in operations
    )
    named = "".join(f'<li><a href="#{escape(name)}">{escape(name)}</a></li>' for name in sorted(schemas))
    return f"<nav><b>Operations</b><ul>{listed}</ul><b>Schemas</b><ul>{named}</ul></nav>"


def _method(method: str) -> str:
    return f'<span class="method {escape(method.lower())}">{escape(method)}</span>'


# ---------------------------------------------------------------------------------------------------------- operations


def _operation(method: str, path: str, operation: Node) -> str:
    shown = f'<span class="path">{escape(path)}</span>'
    if method == "GET" and not any(parameter["required"] for parameter in operation["parameters"]):
        shown = f'<a class="path" href="{escape(path.removeprefix("/"))}">{escape(path)}</a>'
    parameters = [
        (parameter["name"], _place(parameter), _type(parameter["schema"]), _text(parameter["description"]))
        for parameter in operation["parameters"]
    ]
    body: Node = operation.get("requestBody", {"content": {}})["content"]
    bodies = [(media, _type(content["schema"])) for media, content in body.items()]
    answers = [_answer(status, answer) for status, answer in operation["responses"].items()]
    return (
        f'<section id="{escape(operation["operationId"])}"><h3>{_method(method)} {shown}</h3>'
        f"<p><b>{_text(operation['summary'])}.</b> {_text(operation['description'])}</p>"
        + _table("Parameters", ("name", "in", "type", "meaning"), parameters)
        + _table("Body", ("media type", "schema"), bodies)
        + _table("Answers", ("status", "what"), answers)
        + "</section>"
    )


def _place(parameter: Node) -> str:
    return escape(parameter["in"]) + (", required" if parameter["required"] else "")


def _answer(status: str, answer: Node) -> tuple[str, str]:
    ((media, content),) = answer["content"].items()
    phrase = HTTPStatus(int(status)).phrase
    kinds = [f"{escape(kind)}: {_type(data)}" for kind, data in content.get("x-event-data", {}).items()]
    shown = ", ".join(kinds) or _type(content["schema"])
    return f"{status} {phrase}", f'{shown} <span class="soft">{escape(media)}</span>'


def _table(title: str, head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """The first cell of a row is a name, the others are HTML already."""
    body = "".join(
        f"<tr><td><code>{escape(first)}</code></td>" + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
        for first, *rest in rows
    )
    if not body:
        return ""
    return f"<h4>{title}</h4><table><tr>{''.join(f'<th>{name}</th>' for name in head)}</tr>{body}</table>"


# ------------------------------------------------------------------------------------------------------------- schemas


def _schema(name: str, schema: Node) -> str:
    required = set(schema.get("required", ()))
    fields = [
        (field, _type(kind) + ("" if field in required else ', <span class="soft">may be absent</span>'), _about(kind))
        for field, kind in schema.get("properties", {}).items()
    ]
    about = _paragraphs(schema.get("description", ""))
    return f'<section id="{escape(name)}"><h3>{escape(name)}</h3>{about}' + (
        _table("Fields", ("name", "type", "meaning"), fields) + "</section>"
    )


def _about(schema: Node) -> str:
    return _text(schema.get("description", ""))


def _type(schema: Node) -> str:
    """A schema in a few words."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        return f'<a href="#{escape(name)}">{escape(name)}</a>'
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(map(_type, schema[key]))
    if "const" in schema or "enum" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type(values)}" if isinstance(values, Mapping) else "object"
    return escape(str(kind or schema.get("description", "anything"))) + _bounds(schema)


def _bounds(schema: Node) -> str:
    if "pattern" in schema:
        return f" <code>{escape(schema['pattern'])}</code>"
    if "maximum" in schema:
        return f" from {escape(str(schema.get('minimum', 0)))} to {escape(str(schema['maximum']))}"
    return ""


# ---------------------------------------------------------------------------------------------------------------- text


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(part)}</p>" for part in text.split("\n\n") if part)


def _text(text: str) -> str:
    """Text with code between backticks."""
    return re.sub(r"`+([^`]+)`+", r"<code>\1</code>", escape(text))
