"""Errors as problem details: what happened, for people, and a stable code for programs.

Source: RFC 9457.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus

import msgspec
from aiohttp import web

from layer1.errors import Refused
from layer1.httpd.rates import TooMany
from layer1.httpd.views import Problem

MEDIA_TYPE = "application/problem+json"

STATUS_OF = {
    "already_executed": 409,
    "bad_address": 400,
    "bad_content_type": 415,
    "bad_cursor": 400,
    "bad_encoding": 400,
    "bad_parameter": 400,
    "busy": 503,
    "catching_up": 503,
    "not_found": 404,
    "pool_full": 503,
    "pruned": 410,
    "rate_limited": 429,
    "share_full": 429,
    "slow_body": 408,
    "stopping": 503,
    "too_large": 413,
    "too_many": 413,
}
"""HTTP status by code. A refusal by the ledger's rules that is not listed is 422: well-formed, not acceptable."""

RETRY_AFTER = {"pool_full": "1", "share_full": "1", "busy": "1", "catching_up": "2", "stopping": "2"}
"""Seconds after which trying again makes sense, by code."""


def problem(
    status: int, code: str, detail: str, proof: str | None = None, retry_after: str | None = None
) -> web.Response:
    """A problem as a response."""
    body = Problem(status, HTTPStatus(status).phrase, code, detail, proof)
    after = retry_after or RETRY_AFTER.get(code)
    headers = {} if after is None else {"Retry-After": after}
    return web.Response(body=msgspec.json.encode(body), status=status, headers=headers | {"Content-Type": MEDIA_TYPE})


def of_refused(refusal: Refused, statuses: Mapping[str, int] | None = None) -> web.Response:
    """A refusal as a response; `statuses` are those of codes that only one API has."""
    after = str(refusal.retry_s) if isinstance(refusal, TooMany) else None
    status = (statuses or {}).get(refusal.code) or STATUS_OF.get(refusal.code, 422)
    return problem(status, refusal.code, refusal.message, retry_after=after)


def of_http(error: web.HTTPException) -> web.Response:
    """What the router or aiohttp itself says, as a response."""
    codes = {404: "not_found", 405: "method_not_allowed", 413: "too_large"}
    details = {
        404: "there is no such resource; /docs and /openapi.json list all",
        405: f"this resource takes {error.headers.get('Allow', 'other methods')}",
        413: "the body is larger than this server takes; send less at once",
    }
    status = error.status if error.status >= 400 else 400
    response = problem(status, codes.get(status, "bad_request"), details.get(status, error.reason))
    if "Allow" in error.headers:
        response.headers["Allow"] = error.headers["Allow"]
    return response


def not_found(what: str, proof: str | None = None) -> web.Response:
    """There is nothing of this name as of the last final block."""
    return problem(404, "not_found", what, proof)
