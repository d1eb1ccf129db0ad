"""Links and a layer 1 in memory: what the tests of the service share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from typing import Any

from layer1.client import LedgerEvent, LedgerUnreachable
from layer1.codec import encode
from layer1.crypto import Hash, PublicKey
from layer1.header import Header
from layer1.ledger.genesis import genesis_header
from layer1.ledger.records import Group
from layer1.ledger.transactions import Output, Report, Transaction
from layer1.link import LinkClosed
from layer2.tower import FromTower, ToTower, decode_from_tower
from tests.wallet.standin import make_genesis


class Line:
    """The tower's end of a customer's link."""

    def __init__(self, peer: PublicKey) -> None:
        self.peer = peer
        self.cut_for = ""
        self.told: list[FromTower] = []
        self._inbox: asyncio.Queue[bytes | None] = asyncio.Queue()
        self._news = asyncio.Event()

    def say(self, *messages: ToTower | bytes) -> None:
        """As the customer."""
        for message in messages:
            self._inbox.put_nowait(message if isinstance(message, bytes) else encode(message))

    async def hear(self, count: int) -> list[FromTower]:
        """The first `count` answers."""
        async with asyncio.timeout(5):
            while len(self.told) < count:
                self._news.clear()
                await self._news.wait()
        return self.told[:count]

    def send_nowait(self, data: bytes) -> bool:
        self.told.append(decode_from_tower(data))
        self._news.set()
        return True

    async def receive(self) -> bytes:
        data = await self._inbox.get()
        if data is None:
            raise LinkClosed("the customer hung up")
        return data

    def cut(self, reason: str) -> None:
        self.cut_for = reason
        while not self._inbox.empty():
            self._inbox.get_nowait()
        self._inbox.put_nowait(None)

    async def close(self, reason: str = "") -> None:
        self._inbox.put_nowait(None)


@dataclass
class Records:
    """Layer 1: what it shows of groups, and what was brought to it."""

    groups: dict[Hash, Group] = field(default_factory=dict)
    clock: int | None = 5_000
    height: int = 10
    reachable: bool = True
    takes: bool = True
    brought: list[Report] = field(default_factory=list)
    looks: list[Hash] = field(default_factory=list)
    followed: list[int | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._events: asyncio.Queue[LedgerEvent] = asyncio.Queue()
        self._moved = asyncio.Event()

    async def look(self, group_id: Hash) -> Group | None:
        await asyncio.sleep(0)
        if not self.reachable:
            raise LedgerUnreachable("taken away by the test")
        self.looks.append(group_id)
        self._note()
        return self.groups.get(group_id)

    def clock_ms(self) -> int | None:
        return self.clock

    async def head(self) -> Header:
        if not self.reachable or self.clock is None:
            raise LedgerUnreachable("taken away by the test")
        first = genesis_header(make_genesis())
        values: dict[str, Any] = {name: getattr(first, name) for name in first.__struct_fields__}
        return Header(**{**values, "height": self.height, "clock": self.clock})

    async def bring(self, reports: Sequence[Transaction]) -> list[Output]:
        if not self.reachable:
            raise LedgerUnreachable("taken away by the test")
        payloads = [each.payload for each in reports]
        assert all(isinstance(payload, Report) for payload in payloads)
        self.brought += payloads  # type: ignore[arg-type]  # checked
        self._note()
        code = "ok" if self.takes else "pool_full"
        return [Output(each.id, code, "") for each in reports]

    async def events(self, after: int | None) -> AsyncGenerator[LedgerEvent, None]:
        self.followed.append(after)
        self._note()
        while True:
            yield await self._events.get()

    def tell(self, kind: str, height: int, **data: Any) -> None:
        """An event."""
        self._events.put_nowait(LedgerEvent(kind, height, data))

    def _note(self) -> None:
        self._moved.set()
        self._moved = asyncio.Event()

    async def settled(self, condition: Any) -> None:
        """Wait until `condition()` holds, which follows from what was done before within some turns of the loop."""
        for _ in range(100_000):
            if condition():
                return
            await asyncio.sleep(0)
        raise AssertionError("it never came to that")

    async def until(self, condition: Any) -> None:
        """Wait until `condition()` holds, looking at each look and report."""
        async with asyncio.timeout(5):
            while not condition():
                await self._moved.wait()
