"""The product's ledger client over simulated replicas: only how a request travels is replaced, and how news comes.

A request and its answer take time; a process that is cut off from the ledger sends and hears nothing.

Source: layer1/client.py, layer1/failover.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from functools import partial
from typing import Any

from layer1.block import CommittedBlock
from layer1.client import LedgerClient
from layer1.crypto import Hash, PublicKey
from layer1.eventstream import LedgerEvent
from layer1.failover import ClientLimits, Replica, Replicas, Reply, Unavailable
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import CloseGroup, OpenGroup, Report, Wedge
from tests.simulation import replica as simulated
from tests.simulation.groups.api import Api
from tests.simulation.groups.loop import ProcessLoop
from tests.simulation.kernel import MS

LOST_HINTS = 0.1
"""Part of the news of blocks that a wallet does not get: a stream may break."""


class Cut:
    """Whether a wallet's machine reaches the ledger; belongs to the machine, not to a process."""

    def __init__(self) -> None:
        self.until_us = 0


class _Replicas(Replicas):
    """All replicas, reached through the simulated world."""

    def __init__(self, apis: Sequence[Api], limits: ClientLimits, loop: ProcessLoop, cut: Cut) -> None:
        super().__init__([api.url for api in apis], limits)
        self._apis = {api.url: api for api in apis}
        self._loop = loop
        self._cut = cut

    async def _request(self, replica: Replica, method: str, path: str, limit_ms: int, **options: Any) -> Reply:
        api, body = self._apis[replica.url], options.get("data", b"")
        done: asyncio.Future[Reply | None] = self._loop.create_future()

        def settle(reply: Reply | None) -> None:
            if not done.done():
                done.set_result(reply)

        def back(reply: Reply | None) -> None:
            self._travel(lambda: self._loop.call_soon(settle, reply))

        def arrive() -> None:
            if api.refuses:
                back(None)
            else:
                api.serve(path, body, back)

        self._travel(arrive)
        try:
            async with asyncio.timeout(limit_ms / 1000):
                answer = await done
        except TimeoutError as error:
            raise Unavailable(f"{replica.url}{path}: no answer within {limit_ms} ms", heard=True) from error
        if answer is None:
            raise Unavailable(f"{replica.url} does not answer")
        return answer

    def _travel(self, then: Callable[[], object]) -> None:
        world = self._loop.world

        def arrive() -> None:
            if not self._loop.dead and world.now_us >= self._cut.until_us:
                then()

        if world.now_us >= self._cut.until_us:
            world.after(self._loop.random.randint(500, 20 * MS), arrive)


class SimulatedClient(LedgerClient):
    """The client of one life of one process."""

    def __init__(
        self, apis: Sequence[Api], genesis: Genesis, loop: ProcessLoop, cut: Cut, wall_ms: Callable[[], int]
    ) -> None:
        super().__init__([api.url for api in apis], genesis, None, wall_ms)
        order = list(apis)
        loop.random.shuffle(order)
        self._loop, self._cut = loop, cut
        self._replicas = _Replicas(order, self.limits, loop, cut)
        self._news = asyncio.Event()
        self._blocks: list[CommittedBlock] = []
        self._heard_height = 0

    def heard(self, _replica: simulated.Replica, block: CommittedBlock) -> None:
        """A replica has a new block: a hint that soon arrives, or is lost."""
        height, world = block.header.height, self._loop.world
        if self._loop.dead or height <= self._heard_height or world.now_us < self._cut.until_us:
            return
        self._heard_height = height
        if self._loop.random.random() < LOST_HINTS:
            return

        def arrive() -> None:
            self._blocks.append(block)
            self._news.set()

        world.after(self._loop.random.randint(500, 20 * MS), partial(self._soon, arrive))

    def _soon(self, arrive: Callable[[], None]) -> None:
        self._loop.call_soon(arrive)

    async def events(
        self,
        groups: Iterable[Hash] = (),
        accounts: Iterable[PublicKey] = (),
        after: int | None = None,
        kinds: Iterable[str] = (),
    ) -> AsyncGenerator[LedgerEvent, None]:
        """Blocks, and before each what it did to these groups."""
        wanted = set(groups)
        while True:
            await self._news.wait()
            self._news.clear()
            blocks, self._blocks = self._blocks, []
            for block in blocks:
                height = block.header.height
                if _touched(block) & wanted:
                    yield LedgerEvent("group", height, {})
                yield LedgerEvent("block", height, {}, block.header)


def _touched(block: CommittedBlock) -> set[Hash]:
    """Groups that the transactions of a block are about."""
    touched = {output.group_id for output in block.outputs if output.group_id is not None}
    for transaction in block.transactions:
        match transaction.payload:
            case CloseGroup(final=final):
                touched.add(final.group_id)
            case Wedge(claim=claim):
                touched.add(claim.group_id)
            case Report(group_id=name):
                touched.add(name)
            case OpenGroup() | _:
                pass
    return touched
