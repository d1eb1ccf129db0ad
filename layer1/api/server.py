"""Serving the API: one listening socket with a limit of connections."""

from __future__ import annotations

from ssl import SSLContext

from aiohttp import web


class ApiServer:
    """A running API."""

    port: int
    """The port it listens on; of use when 0 was asked for."""

    async def close(self) -> None:
        """Stop listening, end event streams, let requests finish."""
        raise NotImplementedError


async def serve(
    app: web.Application, host: str = "127.0.0.1", port: int = 0, ssl: SSLContext | None = None
) -> ApiServer:
    """Serve an application of :func:`layer1.api.app.create_app`."""
    raise NotImplementedError
