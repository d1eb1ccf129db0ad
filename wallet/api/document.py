"""Routes of the verbs, and the OpenAPI document of all routes: made from the requests and views themselves.

Source: OpenAPI Specification 3.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from layer1.docstrings import field_texts, plain
from layer1.httpd import openapi
from layer1.httpd.limits import HttpLimits
from layer1.httpd.routes import Parameter, Route
from wallet.api.handlers import handler_of
from wallet.api.keys import MAX_KEY
from wallet.api.verbs import Verb
from wallet.requests import Progress, View

DESCRIPTION = """Everything that one can ask of a wallet that is being served.

Give a token in the header `Authorization: Bearer`; `wallet token create` makes one, of the scopes `read`, `receive`,
`spend` (up to its limits) or `admin` (all). What moves money needs a new `Idempotency-Key` for each payment: the same
key with the same request gets the same answer, and moves nothing again.

Amounts are minor units, addresses Bech32, ids and hashes hexadecimal, times milliseconds. Errors are problem details
(RFC 9457) with a stable `code`. Whoever sends `Accept: text/event-stream` is told `progress` while a request is carried
out, then its `answer` or its `problem`; what was begun goes on when the client leaves."""

ABOUT = openapi.About(
    "Wedge wallet",
    DESCRIPTION,
    views=(View,),
    shown=(Progress,),
    security={"token": {"type": "http", "scheme": "bearer"}},
)
KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "minLength": 1, "maxLength": MAX_KEY, "pattern": "^[!-~]+$"},
    "Names this request for good: whoever repeats it with the same key gets the same answer.",
    place="header",
    required=True,
)


def document(routes: Sequence[Route], limits: HttpLimits) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes."""
    made: dict[str, Any] = _as_json(openapi.document(ABOUT, routes, limits))
    return made


def _as_json(value: Any) -> Any:
    """The same of JSON's own types: defaults of the views are tuples."""
    if isinstance(value, Mapping):
        return {name: _as_json(each) for name, each in value.items()}
    return [_as_json(each) for each in value] if isinstance(value, tuple | list) else value


def route_of(verb: Verb) -> Route:
    """A verb as a route."""
    properties, required = _fields(verb)
    parameters = [_parameter(name, properties.pop(name)) for name in verb.in_path]
    body: dict[str, object] = {}
    if verb.has_body and properties:
        body["application/json"] = {
            "type": "object",
            "properties": properties,
            "required": sorted(set(required) & set(properties)),
            "additionalProperties": False,
        }
    elif not verb.has_body:
        parameters += [_parameter(name, schema, required=name in required) for name, schema in properties.items()]
    return Route(
        verb.method,
        verb.path,
        handler_of(verb),
        verb.summary,
        {200: verb.request.answer},
        (*parameters, *([KEY] if verb.moves_money else [])),
        _refusals(verb),
        body,
        scopes=verb.scopes,
        description=_description(verb),
    )


def _description(verb: Verb) -> str:
    scopes = " or ".join(f"`{scope}`" for scope in dict.fromkeys((*verb.scopes, "admin")))
    limit = " Counts against the token's limits." if verb.spending is not None else ""
    return f"{plain(verb.request.__doc__)} Scope: {scopes}.{limit}"


def _refusals(verb: Verb) -> tuple[int, ...]:
    return (400, 401, 403, 404, 409, 421, 422, 500, 504) + ((408, 413, 415) if verb.has_body else ())


def _fields(verb: Verb) -> tuple[dict[str, Any], list[str]]:
    """Schemas of the fields that do not stand in the path for good, and which of them have to be there."""
    _, components = msgspec.json.schema_components([verb.request])
    schema = components[verb.request.__name__]
    texts = field_texts(verb.request)
    properties = {
        name: {**found, **({"description": texts[name]} if name in texts else {})}
        for name, found in schema["properties"].items()
        if name not in verb.fixed
    }
    return properties, schema.get("required", [])


def _parameter(name: str, schema: dict[str, Any], *, required: bool = False) -> Parameter:
    described = {key: value for key, value in schema.items() if key != "description"}
    return Parameter(name, described, str(schema.get("description", "")), required=required)
