"""What payer and payee share: the clock, looks at locks, and work in the background."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from wallet.locking import Locking
from wallet.parts import Parts

_log = logging.getLogger(__name__)


class Dealer:
    """Base of both sides."""

    def __init__(self, parts: Parts, locking: Locking, clock_ms: Callable[[], int | None]) -> None:
        self._parts = parts
        self._locking = locking
        self._clock_ms = clock_ms
        self._tasks: set[asyncio.Task[None]] = set()

    async def close(self) -> None:
        """Give up what is under way; it is taken up again when the wallet is opened."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _begin(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("what deals with a lock ended", exc_info=error)

    async def _clock(self) -> int:
        """Newest proven ledger clock; waits for the first."""
        found = await self._parts.signals.until(self._clock_ms)
        assert found is not None, "it waits for ever"
        return found

    def _lock(self, group_id: Hash, number: int) -> Lock | None:
        """The lock, if it stands in the newest state that is committed here."""
        group = self._parts.host.groups.get(group_id)
        locks = () if group is None else group.committed.body.locks
        return next((lock for lock in locks if lock.id == number), None)
