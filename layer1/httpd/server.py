"""Serving the API: one listening socket; :mod:`layer1.httpd.connections` bounds what it takes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from ssl import SSLContext

from aiohttp import web

from layer1.descriptors import room_for
from layer1.httpd.connections import Connection, Connections
from layer1.httpd.limits import HttpLimits
from layer1.httpd.service import SERVICE, Service
from layer1.listening import BACKLOG, TlsListener

GRACE_S = 2.0
"""How long requests in work may take when the server stops."""

MOST_ARRIVING = 128
"""Connections over which HTTPS does not run yet. For the next one the oldest gives way."""

_log = logging.getLogger(__name__)


class ApiServer:
    """A running API. Made by :func:`serve`."""

    port: int
    """The port it listens on; of use when 0 was asked for."""

    def __init__(self, runner: web.AppRunner, listener: asyncio.Server | TlsListener, connections: Connections) -> None:
        self._runner = runner
        self.connections = connections
        self._listener = listener
        self.port = int(listener.sockets[0].getsockname()[1])

    async def close(self) -> None:
        """Stop listening, end event streams, let requests finish."""
        if isinstance(self._listener, TlsListener):
            await self._listener.close()
        else:
            self._listener.close()
        await self._runner.cleanup()
        self.connections.stop()


async def serve(
    app: web.Application,
    host: str = "127.0.0.1",
    port: int = 0,
    ssl: SSLContext | None = None,
    *,
    reuse_port: bool = False,
) -> ApiServer:
    """Serve an application of :func:`layer1.httpd.application.application`.

    ``reuse_port`` lets it listen on a port that another process of this user reserved by binding it.

    Raises:
        OSError: The address is taken or not ours.
    """
    limits, connections = app[SERVICE].limits, app[SERVICE].connections
    _make_room(limits, connections, 0 if ssl is None else MOST_ARRIVING)
    runner = web.AppRunner(
        app,
        access_log=None,
        shutdown_timeout=GRACE_S,
        handler_cancellation=True,  # whoever leaves gives back the room for a wait or a stream at once
    )
    await runner.setup()
    server = runner.server
    assert server is not None, "set up above"

    def connect() -> asyncio.Protocol:
        return Connection(server, connections, limits.keep_alive_ms)

    try:
        listener: asyncio.Server | TlsListener
        if ssl is not None:
            listener = _tls_listener(app[SERVICE], connect, ssl)
            await listener.start(host, port, reuse_port=reuse_port)
        else:
            listener = await asyncio.get_running_loop().create_server(
                connect, host, port, backlog=BACKLOG, reuse_port=reuse_port or None
            )
    except OSError:
        await runner.cleanup()
        raise
    connections.start()
    return ApiServer(runner, listener, connections)


def _make_room(limits: HttpLimits, connections: Connections, arriving: int) -> None:
    """Bound the connections by what this process may open, with those on which TLS is not up."""
    connections.most = max(1, room_for(limits.connections + arriving) - arriving)
    if connections.most < limits.connections:
        _log.warning(
            "%d connections at most, not %d: this process may open no more files; raise `ulimit -n`",
            connections.most,
            limits.connections,
        )


def _tls_listener(service: Service, connect: Callable[[], asyncio.Protocol], ssl: SSLContext) -> TlsListener:
    def gave_way() -> None:
        service.connections.dropped["gave_way"] += 1

    return TlsListener(
        connect,
        ssl,
        most_arriving=MOST_ARRIVING,
        handshake_s=service.limits.body_ms / 1000,
        shutdown_s=GRACE_S,
        gave_way=gave_way,
    )
