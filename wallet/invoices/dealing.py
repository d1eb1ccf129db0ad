"""What all share that deal with locks: the clock, looks at locks, giving them back, and work in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine

from layer1.conduct import Budget, Conduct
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.agreements import Lock
from layer2.driver import Pending
from layer2.value import Group
from wallet.locking import Locking
from wallet.parts import Parts

RETRY_S = 1.0
"""After a release was refused, that may be taken later: the channel is busy, or away."""
LOGGED = Budget(faults=50, faults_per_s=0.5, first_pause_s=60, longest_pause_s=600)
"""Locks of one channel that are turned away: who offers them without end does not fill the log."""
_log = logging.getLogger(__name__)


class Dealer:
    """Base of payer, payee, forwarder and switchboard."""

    def __init__(self, parts: Parts, locking: Locking, clock_ms: Callable[[], int | None]) -> None:
        self._parts = parts
        self._locking = locking
        self._clock_ms = clock_ms
        self._tasks: set[asyncio.Task[None]] = set()
        self._told: Conduct[Hash] = Conduct(LOGGED)

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

    async def _refuse(self, group_id: Hash, number: int, reason: bytes) -> None:
        """Release a lock of a peer's, however long it takes."""
        while self._lock(group_id, number) is not None:
            try:
                await self._locking.release(group_id, number, reason)
            except (Refused, Pending) as error:
                _log.debug("channel %s, lock %d: %s", group_id.hex()[:12], number, error)
                await asyncio.sleep(RETRY_S)

    def _tell_released(self, group_id: Hash, number: int, why: str) -> None:
        """For this wallet's log; of a channel in which that happens without end, now and then."""
        now_s, name = time.monotonic(), group_id.hex()[:12]
        if not self._told.out_s(group_id, now_s):
            _log.info("channel %s, lock %d is released: %s", name, number, why)
            if pause_s := self._told.charge(group_id, now_s):
                _log.info("channel %s: locks are released so often that it is not told for %.0f s", name, pause_s)

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


def is_past_the_restart(group: Group) -> bool:
    """Whether no command of before our start can enter any more (rule 5).

    A primary's own are gone with the process, but for the version that it signed. Another member's may be in the one
    version that the primary had signed when it first spoke to us.
    """
    if group.lost or group.doubts:
        return False
    if group.place.is_primary:
        return True
    return group.foreign_version is not None and group.version >= group.foreign_version


def may_be_leaving(group: Group, number: int) -> bool:
    """Whether a peer's lock may yet go by a release of ours from before our start, which nobody here remembers.

    Until that is certain it is worth nothing: a peer can keep the version with the release, and show it when we have
    paid for the lock. What is not in the newest version that we signed is leaving.
    """
    knows_all = not (group.lost or group.doubts)
    settled = is_past_the_restart(group) or (knows_all and group.ended is not None)
    return not settled or all(lock.id != number for lock in group.locks)
