"""Serving the API: one listening socket with a limit of connections."""

from __future__ import annotations

import asyncio
from ssl import SSLContext

import msgspec
from aiohttp import web

from layer1.api.context import API
from layer1.api.problems import Problem

_TOO_MANY = msgspec.json.encode(
    Problem(503, "Service Unavailable", "busy", "as many connections are open as this replica takes; try again soon")
)
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)
"""What a connection gets that is one too many."""

GRACE_S = 2.0
"""How long requests in work may take when the server stops."""


class _Full(asyncio.Protocol):
    """Answers a connection that is one too many, and closes it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(REFUSAL)
        transport.close()


class ApiServer:
    """A running API. Made by :func:`serve`."""

    port: int
    """The port it listens on; of use when 0 was asked for."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server) -> None:
        self._runner = runner
        self._listener = listener
        self.port = int(listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end event streams, let requests finish."""
        self._listener.close()
        await self._runner.cleanup()


async def serve(
    app: web.Application,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl: SSLContext | None = None,
    *,
    reuse_port: bool = False,
) -> ApiServer:
    """Serve an application of :func:`layer1.api.app.create_app`.

    ``reuse_port`` lets it listen on a port that another process of this user reserved by binding it.

    Raises:
        OSError: The address is taken or not ours.
    """
    limits = app[API].limits
    runner = web.AppRunner(
        app,
        access_log=None,
        keepalive_timeout=limits.keep_alive_ms / 1000,
        shutdown_timeout=GRACE_S,
        handler_cancellation=True,  # whoever leaves gives back the room for a wait or a stream at once
    )
    await runner.setup()
    server = runner.server
    assert server is not None, "set up above"

    def connect() -> asyncio.Protocol:
        return server() if len(server.connections) < limits.connections else _Full()

    try:
        listener = await asyncio.get_running_loop().create_server(
            connect, host, port, ssl=ssl, reuse_port=reuse_port or None
        )
    except OSError:
        await runner.cleanup()
        raise
    return ApiServer(runner, listener)
