"""An HTTP API of ours as an aiohttp application: routes, documents, limits, and problems for whatever fails.

Every answer that is not a success is a problem with a stable code, whatever the request was; only what is not HTTP at
all is answered by aiohttp itself. No answer may be read by scripts of other origins, and none is worth framing.

Source: docs/design/architecture.md, "HTTP and links"; RFC 9457.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from layer1.errors import Refused
from layer1.httpd import problems
from layer1.httpd.page import POLICY, page
from layer1.httpd.routes import Route
from layer1.httpd.service import SERVICE, Service, service_of

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = logging.getLogger(__name__)


def application(service: Service, routes: Sequence[Route]) -> web.Application:
    """The application of these routes; serve it with :func:`layer1.httpd.server.serve`."""
    app = web.Application(middlewares=[_observe, _explain], client_max_size=service.limits.body_bytes)
    app[SERVICE] = service
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)
    app.on_response_prepare.append(_secure)
    app.cleanup_ctx.append(_run)
    app.on_shutdown.append(_end_waits)
    return app


def add_documents(app: web.Application, described: Mapping[str, Any]) -> None:
    """``/openapi.json`` for programs, ``/docs`` for people: made once."""
    encoded, shown = msgspec.json.encode(described), page(described)

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=encoded, content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY}
        return web.Response(text=shown, content_type="text/html", headers=headers)

    app.router.add_route("GET", "/openapi.json", openapi)
    app.router.add_route("GET", "/docs", docs)


async def _run(app: web.Application) -> AsyncIterator[None]:
    app[SERVICE].start()
    yield
    app[SERVICE].stop()


async def _end_waits(app: web.Application) -> None:
    app[SERVICE].end_waits()


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def _observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and time every request, and see to it that there is room for its answer."""
    service, started = service_of(request), time.perf_counter()
    with service.connections.working(request.protocol):
        response = await handler(request)
    service.observe(request, response.status, time.perf_counter() - started)
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        service.connections.make_room(len(response.body))
    return response


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a problem."""
    try:
        return await _limited(request, handler)
    except Refused as refusal:
        return problems.of_refused(refusal, service_of(request).statuses)
    except web.HTTPException as error:
        return problems.of_http(error)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:  # noqa: BLE001 - logged; a client gets an answer whatever happens
        known = service_of(request).explain(error)
        if known is not None:
            return problems.of_refused(known, service_of(request).statuses)
        _log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        return problems.problem(500, "internal", "this server failed to answer; its log says why")


async def _limited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what is above a limit; what waits for its client or for finality has limits of its own."""
    service = service_of(request)
    if service.rates is not None and request.remote is not None:
        service.rates.take(request.remote, time.monotonic())
    service.admit(request)
    if request.path == "/events" or request.method == "POST":
        return await handler(request)
    with service.room("requests", service.limits.requests):
        return await handler(request)
