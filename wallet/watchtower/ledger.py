"""Layer 1 as a watchtower sees it: what is proven and fresh, or nothing."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence

from layer1.client import LedgerClient, LedgerEvent
from layer1.crypto import Hash
from layer1.header import Header
from layer1.ledger.records import Group
from layer1.ledger.transactions import Output, Transaction


class TowerLedger:
    """A :class:`layer1.client.LedgerClient` for the desk and the lookout."""

    def __init__(self, client: LedgerClient) -> None:
        self._client = client

    async def look(self, group_id: Hash) -> Group | None:
        """A group, proven and fresh.

        Raises:
            LedgerUnreachable: No replica proved anything.
        """
        return (await self._client.group(group_id)).value

    def clock_ms(self) -> int | None:
        """The newest proven ledger clock; None while the newest proven block is too old."""
        light = self._client.light
        return light.head.clock if light.is_fresh else None

    async def head(self) -> Header:
        """The newest block. Raises as :meth:`look`."""
        return await self._client.head()

    async def bring(self, reports: Sequence[Transaction]) -> list[Output]:
        """Bring transactions to layer 1; see `layer1.client.LedgerClient.submit_many`."""
        return await self._client.submit_many(reports)

    def events(self, after: int | None) -> AsyncGenerator[LedgerEvent, None]:
        """What happens to groups, and blocks, behind a height; see `layer1.client.LedgerClient.events`."""
        return self._client.events(after=after, kinds=("group", "block"))
