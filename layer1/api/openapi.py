"""The OpenAPI document, made from the routes and the answers themselves, so that it cannot drift from them.

Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from layer1.api.limits import ApiLimits
from layer1.api.problems import MEDIA_TYPE
from layer1.api.routes import Parameter, Route
from layer1.api.views import Problem, Submission, View
from layer1.docstrings import field_texts, plain

REFERENCE = "#/components/schemas/{name}"

DESCRIPTION = """Queries, submission and events of one replica of a Wedge ledger.

Do not believe one replica: ask with `?proof=true` and verify the proof against the genesis, as `layer1.client` does.
Errors are problem details (RFC 9457) with a stable `code`. Lists are paged: pass `next` as `cursor`. Hashes, ids and
keys are hexadecimal, addresses Bech32; amounts and times are integers of at most 2^53 - 1, times in milliseconds. A
`proof` is the hex of a struct of `layer1.proof` in the canonical encoding."""


def document(routes: Sequence[Route], limits: ApiLimits | None = None) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, served with these limits."""
    limits = limits or ApiLimits()
    views = {Problem, Submission, *(view for route in routes for view in route.events.values())}
    views |= {view for route in routes for view in route.answers.values() if not isinstance(view, str)}
    _, schemas = msgspec.json.schema_components(sorted(views, key=lambda view: view.__name__), ref_template=REFERENCE)
    described: list[type[msgspec.Struct]] = [Problem, *View.__subclasses__()]
    for view in described:
        if view.__name__ in schemas:
            _describe(schemas[view.__name__], view)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, limits)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wedge ledger",
            "version": _version(),
            "description": DESCRIPTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {"schemas": schemas},
    }


def _describe(schema: dict[str, Any], view: type[msgspec.Struct]) -> None:
    """Say what a view and its fields mean, in place."""
    schema["description"] = plain(view.__doc__)
    for name, text in field_texts(view).items():
        schema["properties"][name]["description"] = text


def _operation(route: Route, limits: ApiLimits) -> dict[str, Any]:
    answers = {str(status): _answer(view, route.events) for status, view in route.answers.items()}
    refusals = {str(status): _problem() for status in sorted({*route.refusals, 429, 503})}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": plain(route.handler.__doc__),
        "operationId": f"{route.method.lower()}{route.path.title().translate(str.maketrans('', '', '/{}.'))}",
        "parameters": [_parameter(parameter, route.path, limits) for parameter in route.parameters],
        "responses": answers | refusals,
    }
    if route.body:
        content = {media: {"schema": schema} for media, schema in route.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(parameter: Parameter, path: str, limits: ApiLimits) -> dict[str, Any]:
    bound = {"maximum": getattr(limits, parameter.maximum)} if parameter.maximum else {}
    in_path = f"{{{parameter.name}}}" in path
    return {
        "name": parameter.name,
        "in": "path" if in_path else parameter.place,
        "required": in_path or parameter.required,
        "description": parameter.description,
        "schema": {**parameter.schema, **bound},
    }


def _answer(view: type[msgspec.Struct] | str, events: Mapping[str, type[msgspec.Struct]]) -> dict[str, Any]:
    if isinstance(view, str):
        content: dict[str, Any] = {"schema": {"type": "string"}}
        if events:  # OpenAPI 3.1 has no word for what stands in a stream
            content["x-event-data"] = {kind: _reference(data) for kind, data in events.items()}
        return {"description": "See the description.", "content": {view: content}}
    return {"description": view.__name__, "content": {"application/json": {"schema": _reference(view)}}}


def _reference(view: type[msgspec.Struct]) -> dict[str, Any]:
    return {"$ref": REFERENCE.format(name=view.__name__)}


def _problem() -> dict[str, Any]:
    return {"description": "Refused; see its code.", "content": {MEDIA_TYPE: {"schema": _reference(Problem)}}}


def _version() -> str:
    try:
        return version("wedge-channels")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "0"
