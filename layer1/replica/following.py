"""Followers of final blocks, such as event streams: each with a bounded queue.

Source: docs/design/architecture.md, "Packages and the direction of imports".
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from layer1.block import CommittedBlock

SUBSCRIPTION_BLOCKS = 1_024
"""How far a follower may lag before it is dropped."""


class BlockSubscription:
    """A bounded queue of final blocks; a reader that is too slow is dropped."""

    def __init__(self, forget: Callable[[BlockSubscription], None]) -> None:
        self._forget = forget
        self._blocks: deque[CommittedBlock] = deque()
        self._news = asyncio.Event()
        self._over = False

    async def get(self) -> CommittedBlock | None:
        """The next block; None when this reader was dropped or the replica stops."""
        while not self._blocks:
            if self._over:
                return None
            self._news.clear()
            await self._news.wait()
        return self._blocks.popleft()

    def put(self, block: CommittedBlock) -> None:
        """Add a block, or drop a reader that is too slow."""
        if len(self._blocks) >= SUBSCRIPTION_BLOCKS:
            self._blocks.clear()
            self.end()
            return
        self._blocks.append(block)
        self._news.set()

    def end(self) -> None:
        """No more blocks come."""
        self._over = True
        self._news.set()
        self._forget(self)

    def close(self) -> None:
        """Stop following."""
        self.end()
