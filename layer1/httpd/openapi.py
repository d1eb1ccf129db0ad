"""The OpenAPI document, made from the routes and the answers themselves, so that it cannot drift from them.

Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import msgspec

from layer1.docstrings import field_texts, plain
from layer1.httpd.limits import HttpLimits
from layer1.httpd.problems import MEDIA_TYPE
from layer1.httpd.routes import Parameter, Route
from layer1.httpd.views import Problem

REFERENCE = "#/components/schemas/{name}"


@dataclass(frozen=True, slots=True)
class About:
    """What a document says of the whole API."""

    title: str
    description: str
    views: Sequence[type[msgspec.Struct]]
    """Bases of its views, whose docstrings it quotes."""
    shown: Sequence[type[msgspec.Struct]] = ()
    """Further schemas that its routes name."""
    security: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Security schemes, by name; routes with scopes need all of them."""


def document(about: About, routes: Sequence[Route], limits: HttpLimits) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes, served with these limits."""
    views = {Problem, *about.shown, *(view for route in routes for view in route.events.values())}
    views |= {view for route in routes for view in route.answers.values() if not isinstance(view, str)}
    _, schemas = msgspec.json.schema_components(sorted(views, key=lambda view: view.__name__), ref_template=REFERENCE)
    described: list[type[msgspec.Struct]] = [Problem, *(view for base in about.views for view in _below(base))]
    for view in described:
        if view.__name__ in schemas:
            _describe(schemas[view.__name__], view)
    paths: dict[str, Any] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, limits, about)
    components: dict[str, Any] = {"schemas": schemas}
    if about.security:
        components["securitySchemes"] = about.security
    return {
        "openapi": "3.1.0",
        "info": {
            "title": about.title,
            "version": _version(),
            "description": about.description,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": components,
    }


def _below(base: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """All that derive from it, over any number of steps."""
    return [below for child in base.__subclasses__() for below in (child, *_below(child))]


def _describe(schema: dict[str, Any], view: type[msgspec.Struct]) -> None:
    """Say what a view and its fields mean, in place."""
    schema["description"] = plain(view.__doc__)
    for name, text in field_texts(view).items():
        schema["properties"][name]["description"] = text


def _operation(route: Route, limits: HttpLimits, about: About) -> dict[str, Any]:
    answers = {str(status): _answer(view, route.events) for status, view in route.answers.items()}
    refusals = {str(status): _problem() for status in sorted({*route.refusals, 429, 503})}
    operation: dict[str, Any] = {
        "summary": route.summary,
        "description": plain(route.description or route.handler.__doc__),
        "operationId": f"{route.method.lower()}{route.path.title().translate(str.maketrans('', '', '/{}.'))}",
        "parameters": [_parameter(parameter, route.path, limits) for parameter in route.parameters],
        "responses": answers | refusals,
    }
    if route.scopes:
        operation["security"] = [{name: list(route.scopes)} for name in about.security]
    if route.body:
        content = {media: {"schema": schema} for media, schema in route.body.items()}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _parameter(parameter: Parameter, path: str, limits: HttpLimits) -> dict[str, Any]:
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
