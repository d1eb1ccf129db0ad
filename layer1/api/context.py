"""What all handlers share: the replica, limits, counters, and the way to the store.

Store queries run in threads of their own, the state is read in the event loop: it belongs to the replica. Whatever
was final when a request came is visible to it: :meth:`Api.caught_up` waits until the store holds it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import msgspec
from aiohttp import web

from layer1 import merkle
from layer1.api.backend import NO_DATABASE, Backend, Head
from layer1.api.connections import Connections
from layer1.api.limits import ApiLimits
from layer1.api.metrics import Metrics
from layer1.api.rates import Rates
from layer1.codec import encode
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.transactions import Output
from layer1.proof import HeadProof, OutputProof
from layer1.storage.database import Outage

T = TypeVar("T")

READERS = 4
"""Threads that query the store."""


class Api:
    """The shared part of one application."""

    def __init__(
        self, backend: Backend, limits: ApiLimits, rates: Rates | None = None, metrics: Metrics | None = None
    ) -> None:
        self.backend = backend
        self.limits = limits
        self.rates = rates
        """None where nobody has a limit."""
        self.metrics = metrics or Metrics(backend)
        self.connections = Connections(limits)
        self.closing = asyncio.Event()
        """Set when the server stops: waits and streams end."""
        self.in_work: dict[str, int] = {"requests": 0, "waiting": 0}
        self._streams: OrderedDict[web.RequestHandler, None] = OrderedDict()
        self._large_bodies: OrderedDict[web.RequestHandler, float] = OrderedDict()
        """Those that are arriving, and since when; oldest first, like the streams."""
        self._threads = ThreadPoolExecutor(READERS, "api-store")
        self._proven: OrderedDict[int, tuple[HeadProof, list[Hash]]] = OrderedDict()
        self._grown = asyncio.Event()
        self._unfollow: Callable[[], None] = lambda: None

    def start(self) -> None:
        """Follow the store; called when the event loop runs."""
        loop = asyncio.get_running_loop()

        def appended(_height: int) -> None:
            with suppress(RuntimeError):  # the loop has just closed: nobody waits any more
                loop.call_soon_threadsafe(self._wake)

        self._unfollow = self.backend.store.on_append(appended)

    def stop(self) -> None:
        """Let go of the store."""
        self._unfollow()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def end_waits(self) -> None:
        """Make streams and waits end soon."""
        self.closing.set()
        self._wake()

    def _wake(self) -> None:
        grown, self._grown = self._grown, asyncio.Event()
        grown.set()

    async def grown(self) -> None:
        """Wait for the next append, or for the end."""
        if not self.closing.is_set():
            await self._grown.wait()

    async def read(self, query: Callable[..., T], *arguments: Any) -> T:
        """Run a query of the store beside the event loop.

        Raises:
            Refused: ``busy``: the database does not answer just now. Where it is, is not for strangers.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, query, *arguments)
        except Outage:
            raise Refused("busy", NO_DATABASE) from None

    async def caught_up(self, height: int | None = None) -> None:
        """Wait until the store holds every block up to `height`, by default the head's.

        Raises:
            Refused: ``catching_up`` when that takes too long.
        """
        wanted = self.backend.head().header.height if height is None else height
        store, limit_ms = self.backend.store, self.limits.catch_up_ms
        if store.height >= wanted:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(limit_ms / 1000):
                while store.height < wanted and not self.closing.is_set():
                    await self.grown()
        if store.height < wanted:
            raise Refused(
                "catching_up",
                f"the store holds block {store.height}, block {wanted} is final; ask again, or another replica",
            )

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

    async def head_proof(self, height: int) -> HeadProof:
        """What makes a stored block final."""
        return (await self._provable(height))[0]

    async def output_proofs(self, places: Sequence[tuple[int, int, Output]]) -> list[str]:
        """Proofs of outputs by (height, index), in hex."""
        proofs = []
        for height, index, output in places:
            head, leaves = await self._provable(height)
            proofs.append(encode(OutputProof(head, output, merkle.prove_index(leaves, index))).hex())
        return proofs

    async def _provable(self, height: int) -> tuple[HeadProof, list[Hash]]:
        if (known := self._proven.get(height)) is not None:
            return known
        await self.caught_up(height)
        known = await self.read(self._read_provable, height)
        self._proven[height] = known
        if len(self._proven) > self.limits.proof_cache:
            self._proven.popitem(last=False)
        return known

    def _read_provable(self, height: int) -> tuple[HeadProof, list[Hash]]:
        store = self.backend.store
        leaves = [output.hash for output in store.outputs(height)]
        certified = store.certified(height)  # after its outputs: where it still is, they were whole
        if certified is None:
            raise Refused(
                "pruned", f"block {height} is no longer kept here, only blocks {store.oldest()} to {store.height}"
            )
        return HeadProof(certified.header, certified.path, certified.finalization), leaves


API: web.AppKey[Api] = web.AppKey("api", Api)
"""Where the application keeps it."""


def api_of(request: web.Request) -> Api:
    """The shared part, from a request."""
    return request.app[API]


def proof_of_head(head: Head) -> HeadProof:
    """The head with what makes it final."""
    return HeadProof(head.header, head.path, head.finalization)


def answer(view: msgspec.Struct, status: int = 200) -> web.Response:
    """A view as a JSON response."""
    return web.Response(body=msgspec.json.encode(view), status=status, content_type="application/json")


def page_of(items: Sequence[T], limit: int) -> tuple[Sequence[T], bool]:
    """The items of a page that was asked for with one more than `limit`, and whether there are further ones."""
    return items[:limit], len(items) > limit
