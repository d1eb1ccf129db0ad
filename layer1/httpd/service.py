"""What all handlers of one server share: its limits, what is in work, and which of it gives way."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import msgspec
from aiohttp import web

from layer1.errors import Refused
from layer1.httpd.connections import Connections
from layer1.httpd.limits import HttpLimits
from layer1.httpd.rates import Rates


class Service:
    """The shared part of one application; see :mod:`layer1.httpd.application`."""

    limits: HttpLimits
    statuses: Mapping[str, int] = {}
    """HTTP status by code, of codes that only this service has."""

    def __init__(self, limits: HttpLimits, rates: Rates | None = None) -> None:
        self.limits = limits
        self.rates = rates
        """None where nobody has a limit."""
        self.connections = Connections(limits)
        self.closing = asyncio.Event()
        """Set when the server stops: waits and streams end."""
        self.in_work: dict[str, int] = {"requests": 0}
        self._streams: OrderedDict[web.RequestHandler, None] = OrderedDict()
        self._large_bodies: OrderedDict[web.RequestHandler, float] = OrderedDict()
        """Those that are arriving, and since when; oldest first, like the streams."""

    def start(self) -> None:
        """Called when the event loop runs."""

    def stop(self) -> None:
        """Called when the server has stopped."""

    def end_waits(self) -> None:
        """Make streams and waits end soon."""
        self.closing.set()

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """Told of every request, once it is answered."""

    def admit(self, request: web.Request) -> None:
        """Refuse whoever may not ask; by default everybody may."""

    def explain(self, error: Exception) -> Refused | None:
        """What a client is told of an error of this service's own; None for a fault, which is logged."""

    async def body(self, request: web.Request) -> bytes:
        """The body, if it arrives in time; meanwhile the connection may have to give way.

        Raises:
            Refused: ``slow_body``.
        """
        try:
            async with asyncio.timeout(self.limits.body_ms / 1000):
                with self.connections.waiting(request.protocol):
                    return await request.read()
        except TimeoutError:
            raise Refused(
                "slow_body", f"the body did not arrive within {self.limits.body_ms} ms; send less at once"
            ) from None

    @contextmanager
    def room(self, kind: str, most: int) -> Iterator[None]:
        """Count something in work.

        Raises:
            Refused: ``busy`` when there is as much of it as allowed.
        """
        if self.in_work[kind] >= most:
            raise Refused("busy", f"{self.in_work[kind]} {kind} are in work, at most {most} are taken; try again soon")
        self.in_work[kind] += 1
        try:
            yield
        finally:
            self.in_work[kind] -= 1

    @contextmanager
    def stream(self, handler: web.RequestHandler) -> Iterator[None]:
        """Count a stream of events; when there are as many as allowed, the oldest ends."""
        while len(self._streams) >= self.limits.streams:
            oldest, _ = self._streams.popitem(last=False)
            self.connections.cut(oldest, "gave_way")
        self._streams[handler] = None
        try:
            yield
        finally:
            self._streams.pop(handler, None)

    @contextmanager
    def large_body(self, handler: web.RequestHandler) -> Iterator[None]:
        """Count a large body; when there are as many as allowed, the oldest ends if it was given a good start.

        Raises:
            Refused: ``busy`` if they all have only begun.
        """
        now, bodies, start_s = asyncio.get_running_loop().time(), self._large_bodies, self.limits.body_ms / 1000 / 10
        while len(bodies) >= self.limits.large_bodies:
            oldest = next(iter(bodies))
            if now < bodies[oldest] + start_s:
                raise Refused("busy", f"{len(bodies)} large bodies are arriving, at most that many may; try again soon")
            del bodies[oldest]
            self.connections.cut(oldest, "gave_way")
        bodies[handler] = now
        try:
            yield
        finally:
            bodies.pop(handler, None)


SERVICE: web.AppKey[Service] = web.AppKey("service", Service)
"""Where the application keeps it."""


def service_of(request: web.Request) -> Service:
    """The shared part, from a request."""
    return request.app[SERVICE]


def answer(view: msgspec.Struct, status: int = 200) -> web.Response:
    """A view as a JSON response."""
    return web.Response(body=msgspec.json.encode(view), status=status, content_type="application/json")
