"""The HTTP API of a replica: its routes, put together.

Source: docs/design/architecture.md, "HTTP and links".
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from layer1.api.backend import Backend
from layer1.api.context import API, Api
from layer1.api.feed import Feed
from layer1.api.limits import ApiLimits
from layer1.api.openapi import document
from layer1.api.resources import (
    accounts,
    blocks,
    events,
    evidence,
    groups,
    handovers,
    ledger,
    machine,
    preimages,
    transactions,
)
from layer1.httpd.application import add_documents, application
from layer1.httpd.rates import RateLimit, Rates
from layer1.httpd.routes import Route

ROUTES = (
    *ledger.ROUTES,
    *blocks.ROUTES,
    *transactions.ROUTES,
    *accounts.ROUTES,
    *groups.ROUTES,
    *evidence.ROUTES,
    *handovers.ROUTES,
    *machine.ROUTES,
    *preimages.ROUTES,
    *events.ROUTES,
)

METRICS_LIMITS = ApiLimits(connections=32, requests=8)
"""A few scrapers."""


def create_app(
    backend: Backend,
    limits: ApiLimits | None = None,
    rate: RateLimit | None = None,
    *,
    metrics_apart: bool = False,
) -> web.Application:
    """The application; serve it with :func:`layer1.httpd.server.serve`.

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
    add_documents(app, document(routes, limits))
    return app


def create_metrics_app(app: web.Application) -> web.Application:
    """``/metrics`` of an application of :func:`create_app` alone, for a listener that only an operator reaches."""
    api = app[API]
    return _application(Api(api.backend, METRICS_LIMITS, metrics=api.metrics), ledger.METRICS)


def _application(api: Api, routes: Sequence[Route]) -> web.Application:
    app = application(api, routes)
    app[API] = api
    return app
