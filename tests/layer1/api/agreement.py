"""Whether a typed client and an OpenAPI document say the same, operation by operation and field by field.

What: both sides are turned into plain schemas, and compared in both directions. Texts for people, patterns and bounds
do not count, since a Python type says nothing of them.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from functools import reduce
from operator import or_
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import msgspec

from layer1.api.event_views import EVENTS
from layer1.httpd.problems import MEDIA_TYPE
from layer1.httpd.views import Problem
from layer1.replica_client import OPERATIONS, StreamEvent

REFERENCE = "#/components/schemas/{name}"
UNSAID = {"title", "description", "pattern", "format", "minimum", "maximum", "minItems", "default"}
"""What no Python type says, or no reader needs."""

Node = Any


def disagreements(document: Mapping[str, Any], client: type) -> list[str]:
    """All places where they differ, each in a line; none if they agree."""
    described = {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    written = {OPERATIONS[f]: f for f in vars(client).values() if inspect.isfunction(f) and f in OPERATIONS}
    found = [f"{' '.join(name)}: the client has no method for it" for name in described.keys() - written.keys()]
    found += [f"{' '.join(name)}: the document has no such operation" for name in written.keys() - described.keys()]
    types: set[Any] = {Problem}
    for name in sorted(described.keys() & written.keys()):
        told = _Operation(described[name], written[name], types)
        found += [f"{' '.join(name)}: {difference}" for difference in told.differences()]
    return found + list(_components(document["components"]["schemas"], types))


class _Operation:
    """One operation, on both sides."""

    def __init__(self, described: Node, function: Callable[..., object], types: set[Any]) -> None:
        self._described = described
        self._hints = get_type_hints(function)
        self._parameters = inspect.signature(function).parameters
        self._types = types

    def differences(self) -> Iterator[str]:
        yield from self._in_parameters()
        yield from self._in_body()
        yield from self._in_answers()

    def _in_parameters(self) -> Iterator[str]:
        described = {_python_name(parameter["name"]): parameter for parameter in self._described["parameters"]}
        written = {name.rstrip("_"): name for name in self._parameters if name not in {"self", "body"}}
        for name in sorted(described.keys() ^ written.keys()):
            side = "client" if name in described else "document"
            yield f"the {side} has no parameter {name}"
        for name in sorted(described.keys() & written.keys()):
            theirs = _plain(described[name]["schema"])
            ours = _plain(_schema(_given(self._hints[written[name]])))
            if theirs != ours:
                yield f"parameter {name} is {theirs} in the document, {ours} in the client"
            optional = self._parameters[written[name]].default is not inspect.Parameter.empty
            if optional == described[name]["required"]:
                yield f"parameter {name} is optional on one side only"

    def _in_body(self) -> Iterator[str]:
        body = self._described.get("requestBody")
        if (body is None) != ("body" not in self._parameters):
            yield "only one side has a body"
        elif body is not None:
            ours = _plain(_schema(self._hints["body"], self._types))
            theirs = _plain(body["content"]["application/json"]["schema"])
            if ours not in theirs.get("anyOf", [theirs]):
                yield f"the body is {theirs} in the document, {ours} in the client"

    def _in_answers(self) -> Iterator[str]:
        returned = self._hints["return"]
        for status, answer in self._described["responses"].items():
            ((media, content),) = answer["content"].items()
            theirs = _plain(content["schema"])
            if not status.startswith("2"):
                expected, ours = MEDIA_TYPE, _plain(_schema(Problem))
            elif get_origin(returned) is AsyncGenerator:
                expected, ours = "text/event-stream", {"type": "string"}
                yield from self._in_events(content.get("x-event-data", {}))
            elif returned is str:
                expected, ours = "text/plain", {"type": "string"}
            else:
                expected, ours = "application/json", _plain(_schema(returned, self._types))
            if (media, theirs) != (expected, ours):
                yield f"answer {status} is {media} {theirs} in the document, {expected} {ours} in the client"

    def _in_events(self, described: Node) -> Iterator[str]:
        ours = {kind: _plain(_schema(view, self._types)) for kind, view in EVENTS.items()}
        theirs = {kind: _plain(schema) for kind, schema in described.items()}
        if ours != theirs:
            yield f"events are {theirs} in the document, {ours} in the client"
        if set(get_args(get_type_hints(StreamEvent)["data"])) != set(EVENTS.values()):
            yield "the client's type of an event's data leaves a kind out"


def _components(described: Node, types: set[Any]) -> Iterator[str]:
    """Every schema that the client knows, field by field, and none beside them."""
    _, schemas = msgspec.json.schema_components(sorted(types, key=str), ref_template=REFERENCE)
    for name in sorted(described.keys() ^ schemas.keys()):
        yield f"{name}: {'no method of the client uses it' if name in described else 'it is not in the document'}"
    for name in sorted(described.keys() & schemas.keys()):
        theirs, ours = _plain(described[name]), _plain(schemas[name])
        fields = theirs.get("properties", {}), ours.get("properties", {})
        for field in sorted(fields[0].keys() | fields[1].keys()):
            if (there := fields[0].get(field)) != (here := fields[1].get(field)):
                yield f"{name}.{field} is {there} in the document, {here} in the client"
        if theirs != ours and fields[0] == fields[1]:
            yield f"{name} is {theirs} in the document, {ours} in the client"


def _schema(kind: Any, types: set[Any] | None = None) -> Node:
    """Of a Python type; structs are referred to, and noted."""
    (schema,), components = msgspec.json.schema_components([kind], ref_template=REFERENCE)
    if types is not None and components:
        types.add(kind)
    return schema


def _given(kind: Any) -> Any:
    """What a parameter is when it is given: None stands for its absence."""
    if get_origin(kind) in {UnionType, Union}:
        return reduce(or_, (choice for choice in get_args(kind) if choice is not NoneType))
    return kind


def _plain(schema: Node) -> Node:
    """A schema without what does not count, unions in one spelling and order."""
    if isinstance(schema, list):
        return [_plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "properties" in schema:
        properties = {name: _plain(field) for name, field in schema["properties"].items()}
        rest = {name: value for name, value in schema.items() if name not in UNSAID | {"properties"}}
        return {**rest, "properties": properties, "required": sorted(schema.get("required", ()))}
    plain = {name: _plain(value) for name, value in schema.items() if name not in UNSAID}
    if "const" in plain:
        plain = {"enum": [plain["const"]]}
    if "enum" in plain:
        return {"enum": sorted(plain["enum"], key=str)}
    union = plain.pop("oneOf", plain.pop("anyOf", None))
    if union is not None:
        choices = [choice for i, choice in enumerate(union) if choice not in union[:i]]
        return choices[0] if len(choices) == 1 else {**plain, "anyOf": sorted(choices, key=str)}
    return plain


def _python_name(name: str) -> str:
    return name.lower().replace("-", "_")
