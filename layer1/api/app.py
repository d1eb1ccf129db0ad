"""The HTTP API of a replica as an aiohttp application.

Every answer that is not a success is a problem with a stable code, whatever the request was; only what is not HTTP at
all is answered by aiohttp itself. No answer may be read by scripts of other origins, and none is worth framing.

Source: docs/design/architecture.md, "HTTP and links"; RFC 9457.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Sequence

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from layer1.api import problems
from layer1.api.backend import NO_DATABASE, Backend
from layer1.api.context import API, Api, api_of
from layer1.api.feed import Feed
from layer1.api.limits import ApiLimits
from layer1.api.openapi import document
from layer1.api.page import POLICY, page
from layer1.api.rates import RateLimit, Rates
from layer1.api.resources import accounts, blocks, events, evidence, groups, handovers, ledger, machine, transactions
from layer1.api.routes import Route
from layer1.errors import NotYet, Refused, RemoteError
from layer1.storage.database import Outage

ROUTES = (
    *ledger.ROUTES,
    *blocks.ROUTES,
    *transactions.ROUTES,
    *accounts.ROUTES,
    *groups.ROUTES,
    *evidence.ROUTES,
    *handovers.ROUTES,
    *machine.ROUTES,
    *events.ROUTES,
)

METRICS_LIMITS = ApiLimits(connections=32, requests=8)
"""A few scrapers."""

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}

_log = logging.getLogger(__name__)


def create_app(
    backend: Backend,
    limits: ApiLimits | None = None,
    rate: RateLimit | None = None,
    *,
    metrics_apart: bool = False,
) -> web.Application:
    """The application; serve it with :func:`layer1.api.server.serve`.

    Args:
        backend: The replica. Its state is read in the event loop that serves, which must be the replica's own.
        limits: Of bodies, pages, waits and connections.
        rate: Of requests by one address.
        metrics_apart: Leave ``/metrics`` to an application of :func:`create_metrics_app`.
    """
    limits = limits or ApiLimits()
    api = Api(backend, limits, Rates(rate or RateLimit()))
    routes = [route for route in ROUTES if not (metrics_apart and route in ledger.METRICS)]
    app = _application(api, routes)
    app[events.FEED] = Feed(api)
    _add_documents(app, routes, limits)
    return app


def create_metrics_app(app: web.Application) -> web.Application:
    """``/metrics`` of an application of :func:`create_app` alone, for a listener that only an operator reaches."""
    api = app[API]
    return _application(Api(api.backend, METRICS_LIMITS, metrics=api.metrics), ledger.METRICS)


def _application(api: Api, routes: Sequence[Route]) -> web.Application:
    app = web.Application(middlewares=[_observe, _explain], client_max_size=api.limits.body_bytes)
    app[API] = api
    for route in routes:
        app.router.add_route(route.method, route.path, route.handler)
    app.on_response_prepare.append(_secure)
    app.cleanup_ctx.append(_run)
    app.on_shutdown.append(_end_waits)
    return app


def _add_documents(app: web.Application, routes: Sequence[Route], limits: ApiLimits) -> None:
    """``/openapi.json`` for programs, ``/docs`` for people: made once."""
    described = document(routes, limits)
    encoded, shown = msgspec.json.encode(described), page(described)

    async def openapi(_request: web.Request) -> web.Response:
        return web.Response(body=encoded, content_type="application/json")

    async def docs(_request: web.Request) -> web.Response:
        headers = {"Content-Security-Policy": POLICY}
        return web.Response(text=shown, content_type="text/html", headers=headers)

    app.router.add_route("GET", "/openapi.json", openapi)
    app.router.add_route("GET", "/docs", docs)


async def _run(app: web.Application) -> AsyncIterator[None]:
    app[API].start()
    yield
    app[API].stop()


async def _end_waits(app: web.Application) -> None:
    app[API].end_waits()


async def _secure(_request: web.Request, response: web.StreamResponse) -> None:
    for name, value in SECURITY_HEADERS.items():
        response.headers.setdefault(name, value)
    response.headers.setdefault("Cache-Control", "no-store")


@web.middleware
async def _observe(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and time every request, and see to it that there is room for its answer."""
    api, started = api_of(request), time.perf_counter()
    with api.connections.working(request.protocol):
        response = await handler(request)
    api.metrics.observe(request, response.status, time.perf_counter() - started)
    if isinstance(response, web.Response) and isinstance(response.body, bytes):
        api.connections.make_room(len(response.body))
    return response


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure into a problem."""
    try:
        return await _limited(request, handler)
    except Refused as refusal:
        return problems.of_refused(refusal)
    except RemoteError as error:
        return problems.problem(400, "bad_encoding", str(error))
    except Outage:  # where the database is, is not for strangers
        return problems.problem(503, "busy", NO_DATABASE)
    except NotYet as error:
        return problems.problem(503, "busy", str(error))
    except web.HTTPException as error:
        return problems.of_http(error)
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception:  # noqa: BLE001 - logged; a client gets an answer whatever happens
        _log.exception("%s %s failed", request.method, request.rel_url.raw_path)
        return problems.problem(500, "internal", "this replica failed to answer; its log says why. Ask another one")


async def _limited(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse what is above a limit; what waits for its client or for finality has limits of its own."""
    api = api_of(request)
    if api.rates is not None and request.remote is not None:
        api.rates.take(request.remote, time.monotonic())
    if request.path == "/events" or request.method == "POST":
        return await handler(request)
    with api.room("requests", api.limits.requests):
        return await handler(request)
