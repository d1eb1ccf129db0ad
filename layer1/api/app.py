"""The HTTP API of a replica as an aiohttp application."""

from __future__ import annotations

from aiohttp import web

from layer1.api.backend import Backend
from layer1.api.limits import ApiLimits


def create_app(backend: Backend, limits: ApiLimits | None = None) -> web.Application:
    """The application; serve it with :func:`layer1.api.server.serve`."""
    raise NotImplementedError
