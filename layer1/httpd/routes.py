"""How a resource declares its routes: once, for the router and for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

import msgspec
from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter in the query or, when its name stands in the path, in the path."""

    name: str
    schema: Mapping[str, object]
    description: str
    maximum: str = ""
    """Which of the server's limits bounds it."""
    place: str = "query"
    """Where it stands, unless in the path."""
    required: bool = False
    """Those in the path always are."""


@dataclass(frozen=True, slots=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    handler: Handler
    summary: str
    answers: dict[int, type[msgspec.Struct] | str]
    """By status: a view, or the media type of something that is not JSON."""
    parameters: tuple[Parameter, ...] = ()
    refusals: tuple[int, ...] = (400,)
    """Statuses of problems that this route has of its own; 429 and 503 may always be."""
    body: dict[str, object] = field(default_factory=dict)
    """Schemas of the request body by media type."""
    events: Mapping[str, type[msgspec.Struct]] = field(default_factory=dict)
    """Of a stream: what stands in its events, by kind."""
    scopes: tuple[str, ...] = ()
    """Whoever has one of these may ask; empty where everybody may."""
    description: str = ""
    """In place of the handler's docstring, where one handler serves many routes."""


HASH = {"type": "string", "pattern": "^[0-9a-fA-F]{64}$"}
NUMBER = {"type": "integer", "minimum": 0, "maximum": 2**53 - 1}
BOOLEAN = {"type": "boolean", "default": False}
TEXT = {"type": "string"}
