"""The open connections of one API server, and which of them give way when there are too many.

What: :class:`Connections` counts; :class:`Connection`, aiohttp's handler of one connection, tells it what happens.

*Safety:* a stranger who waits, sends slowly or takes slowly can make nobody else wait, nor the memory grow.

A connection is either worked for, or we wait for its client: for a request, for the rest of one, or until it has taken
its answer. When there is no room for a new connection, the one that has been waited for longest gives way; only if
all are worked for, the new one is refused. What a client does not take within its time costs it the connection, and
all answers that wait to be taken have a bound together, beyond which the largest gives way. Nothing of a connection
that gives way is lost for anybody who means well: he sends his request at once, and so is the last to go.

*Source:* the attacks are known as Slowloris (Hansen, 2009) and Slow Read (Shekyan, 2012).
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from layer1.httpd.limits import HttpLimits
from layer1.httpd.problems import problem
from layer1.httpd.views import Problem

LARGE_ANSWER_BYTES = 64 * 1024
"""From here on an answer must find room among those that wait to be taken; the system's own buffers hold less."""
LEAST_TAKEN_BYTES = 64 * 1024
"""What a slow reader must take within ``write_ms``, about two kilobytes a second: slower than any modem."""

_TOO_MANY = msgspec.json.encode(
    Problem(503, "Service Unavailable", "busy", "as many connections are open as this server takes; try again soon")
)
REFUSAL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\nConnection: close\r\n"
    b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n%s" % (len(_TOO_MANY), _TOO_MANY)
)
"""What a connection gets that is one too many."""

_log = logging.getLogger(__name__)


class Connections:
    """All connections of one server.

    Attributes:
        dropped: How many were ended by us, by reason: ``gave_way``, ``slow`` (took its answer too slowly), ``unsent``
            (too many answers waited to be taken), ``pruned`` (a stream so slow that its next block is no longer kept),
            ``refused`` (no room).
    """

    def __init__(self, limits: HttpLimits) -> None:
        self._limits = limits
        self.most = limits.connections
        """Of the process's file descriptors there may be fewer: see :mod:`layer1.descriptors`."""
        self._open: dict[web.RequestHandler, asyncio.Transport] = {}
        self._waited_for: OrderedDict[web.RequestHandler, int] = OrderedDict()
        """Longest first; with the bytes that it had not taken at the last look."""
        self._looking: asyncio.TimerHandle | None = None
        self.dropped: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def start(self) -> None:
        """Begin to look after slow readers; needs the running loop."""
        self._looking = asyncio.get_running_loop().call_later(self._limits.write_ms / 1000, self._look)

    def stop(self) -> None:
        """No longer look. Connections that still have not taken their answers are cut."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        for handler in list(self._open):
            self._drop(handler, "slow")

    def enter(self, handler: web.RequestHandler, transport: asyncio.Transport) -> bool:
        """Take a new connection in; False if there is no room, and nobody to give way."""
        while len(self._open) >= self.most:
            if not self._waited_for:
                self.dropped["refused"] += 1
                return False
            self._drop(next(iter(self._waited_for)), "gave_way")
        self._open[handler] = transport
        self._waited_for[handler] = 0
        return True

    def leave(self, handler: web.RequestHandler) -> None:
        """It has ended."""
        self._open.pop(handler, None)
        self._waited_for.pop(handler, None)

    @contextmanager
    def working(self, handler: web.RequestHandler) -> Iterator[None]:
        """While a request of it is worked on, it does not give way."""
        self._waited_for.pop(handler, None)
        try:
            yield
        finally:
            self._wait_for(handler)

    @contextmanager
    def waiting(self, handler: web.RequestHandler) -> Iterator[None]:
        """Within :meth:`working`: for now it is the client's turn, so it may have to give way."""
        self._wait_for(handler)
        try:
            yield
        finally:
            self._waited_for.pop(handler, None)

    def make_room(self, size: int) -> None:
        """Before an answer of this many bytes is written: what waits to be taken stays within its bound."""
        if size < LARGE_ANSWER_BYTES:
            return
        unsent = sorted(
            ((transport.get_write_buffer_size(), handler) for handler, transport in self._open.items()),
            key=lambda each: each[0],
        )
        total = sum(found for found, _ in unsent)
        while unsent and unsent[-1][0] and total + size > self._limits.unsent_bytes:
            found, handler = unsent.pop()
            total -= found
            self._drop(handler, "unsent")

    def cut(self, handler: web.RequestHandler, reason: str) -> None:
        """End a connection at once, and count it under this reason."""
        self._drop(handler, reason)

    def _wait_for(self, handler: web.RequestHandler) -> None:
        if handler in self._open:
            self._waited_for[handler] = 0

    def _drop(self, handler: web.RequestHandler, reason: str) -> None:
        self._waited_for.pop(handler, None)
        transport = self._open.pop(handler, None)
        if transport is not None:
            self.dropped[reason] += 1
            _log.debug("a connection was cut: %s", reason)
            transport.abort()  # to close would wait for a client who does not read

    def _look(self) -> None:
        """Cut those who took nothing, or too little, since the last look."""
        self._looking = asyncio.get_running_loop().call_later(self._limits.write_ms / 1000, self._look)
        for handler, before in list(self._waited_for.items()):
            unsent = self._open[handler].get_write_buffer_size()
            if before and unsent and unsent > before - LEAST_TAKEN_BYTES:
                self._drop(handler, "slow")
            else:
                self._waited_for[handler] = unsent


class Connection(web.RequestHandler):
    """One connection; aiohttp reads requests from it and answers."""

    def __init__(self, server: web.Server, connections: Connections, keep_alive_ms: int) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, access_log=None, keepalive_timeout=keep_alive_ms / 1000)  # type: ignore[arg-type]  # no log is meant
        self._connections = connections
        self._refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve it, or answer that there is no room."""
        assert isinstance(transport, asyncio.Transport) or hasattr(transport, "abort"), "a stream"
        stream: asyncio.Transport = transport  # type: ignore[assignment]  # uvloop's is none of asyncio's classes
        if self._connections.enter(self, stream):
            super().connection_made(transport)
        else:
            self._refused = True
            stream.write(REFUSAL)
            stream.close()

    def log_exception(self, *args: object, **details: Any) -> None:
        """Put it down as an error, unless a stranger sent something that is not HTTP: he could fill the log."""
        if isinstance(details.get("exc_info"), HttpProcessingError):
            _log.debug("a client was refused: %s", details["exc_info"])
        else:
            super().log_exception(*args, **details)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """What is not HTTP, or has a line longer than is read, is refused as all else is: with a problem."""
        if not isinstance(exc, HttpProcessingError):
            return super().handle_error(request, status, exc, message)
        _log.debug("a client was refused: %s", exc)
        said = " ".join((exc.message or "this is no HTTP that is understood here").split())
        response = problem(exc.code if 400 <= exc.code < 500 else 400, "bad_request", said[:200])
        response.force_close()
        return response

    def connection_lost(self, exc: BaseException | None) -> None:
        """Its room is free again."""
        self._connections.leave(self)
        if not self._refused:
            super().connection_lost(exc)
