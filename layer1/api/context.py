"""What all handlers share: the replica, limits, counters, and the way to the store.

Store queries run in threads of their own, the state is read in the event loop: it belongs to the replica. Whatever
was final when a request came is visible to it: :meth:`Api.caught_up` waits until the store holds it.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

from aiohttp import web

from layer1 import merkle
from layer1.api.backend import NO_DATABASE, Backend, Head
from layer1.api.limits import ApiLimits
from layer1.api.metrics import Metrics
from layer1.codec import encode
from layer1.crypto import Hash
from layer1.errors import NotYet, Refused, RemoteError
from layer1.httpd.rates import Rates
from layer1.httpd.service import Service
from layer1.ledger.transactions import Output
from layer1.proof import HeadProof, OutputProof
from layer1.storage.database import Outage

T = TypeVar("T")

READERS = 4
"""Threads that query the store."""


class Api(Service):
    """The shared part of one application."""

    limits: ApiLimits

    def __init__(
        self, backend: Backend, limits: ApiLimits, rates: Rates | None = None, metrics: Metrics | None = None
    ) -> None:
        super().__init__(limits, rates)
        self.backend = backend
        self.metrics = metrics or Metrics(backend)
        self.in_work["waiting"] = 0
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
        super().end_waits()
        self._wake()

    def observe(self, request: web.Request, status: int, seconds: float) -> None:
        """Count it."""
        self.metrics.observe(request, status, seconds)

    def explain(self, error: Exception) -> Refused | None:
        """What went wrong below: where the database is, is not for strangers."""
        match error:
            case RemoteError():
                return Refused("bad_encoding", str(error))
            case Outage():
                return Refused("busy", NO_DATABASE)
            case NotYet():
                return Refused("busy", str(error))
            case _:
                return None

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


def page_of(items: Sequence[T], limit: int) -> tuple[Sequence[T], bool]:
    """The items of a page that was asked for with one more than `limit`, and whether there are further ones."""
    return items[:limit], len(items) > limit
