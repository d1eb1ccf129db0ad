"""What a replica keeps of the ledger's past, as its operator chose; and how the rest leaves the disk.

Safety: nothing is deleted that the newest durable checkpoint does not stand for, and nothing of the blocks above it.

After each checkpoint the oldest blocks go, a slice at a time, in the thread that writes the database: between two
slices it stores what became final meanwhile, and rests, since all threads of a process share one interpreter.

Source: decision 026.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from layer1.replica.writer import StoreWriter
from layer1.storage.store import Store

SLICE_BLOCKS = 500
"""At most, in one SQL transaction; see also `layer1.storage.past.SLICE_TRANSACTIONS`."""
REST_S = 0.05
"""Between two slices: years of blocks that nobody wants any more are no reason to be slow."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HistoryPolicy:
    """How many blocks stay on the disk, and what a replica does that is far behind."""

    keep_blocks: int = 0
    """How many blocks stay in the database below the last checkpoints, which peers may be fetching; older ones are
    deleted, for good. 0: all. What no replica keeps, nobody can look up any more: let some of a ledger's replicas keep
    all."""
    start_from_snapshot: bool = True
    """When far behind, take the state from a peer, verified against what a quorum signed, and go on from there without
    the blocks below. A replica that keeps all blocks does so only when it is new. false: fetch and execute every block
    for as long as a peer has them."""

    def __post_init__(self) -> None:
        if self.keep_blocks < 0:
            raise ValueError(f"history.keep_blocks is {self.keep_blocks}; write how many to keep, or 0 for all")

    def first_kept(self, checkpoint: int) -> int:
        """Height of the first block that stays when there is a checkpoint of this height; 1 for all."""
        return max(1, checkpoint - self.keep_blocks + 1) if self.keep_blocks else 1


class Pruner:
    """Deletes old blocks. Made and called on the loop."""

    def __init__(self, policy: HistoryPolicy, store: Store, writer: StoreWriter) -> None:
        self._policy = policy
        self._store = store
        self._writer = writer
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._first_kept = 1
        self._running = False

    def checkpointed(self, height: int) -> None:
        """There is a durable checkpoint of this height, and nobody fetches an older one."""
        self._first_kept = max(self._first_kept, self._policy.first_kept(height))
        if not self._running and self._first_kept > self._store.oldest():
            self._running = True
            self._writer.then(self._slice)

    def end(self) -> None:
        """Leave the rest for the next start."""
        if self._timer is not None:
            self._timer.cancel()

    def _slice(self) -> None:
        """In the writer's thread."""
        count = self._store.prune(self._first_kept, SLICE_BLOCKS)
        self._loop.call_soon_threadsafe(self._after, count)

    def _after(self, count: int) -> None:
        if count or self._first_kept > self._store.oldest():  # or there was another checkpoint meanwhile
            self._timer = self._loop.call_later(REST_S, self._writer.then, self._slice)
            return
        self._running = False
        _log.info("the database begins with block %d now: history.keep_blocks says so", self._store.oldest())
