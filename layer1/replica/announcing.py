"""Batches that wait for long are named to all peers, again and again: one may be here alone.

Links break while a batch is sent, and who packed it may lose it in a crash. What a steady leader does not have it never
proposes, and what fewer than a quorum has makes nobody replace it. Whoever lacks what is named fetches it.

Source: docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from itertools import islice

from layer1.crypto import Hash
from layer1.ledger.state import State
from layer1.replica.batches import BatchStore

MAX_ANNOUNCED = 1_000
"""Batches in one announcement that are looked at."""
ANNOUNCE_MS = 1_000
"""How long a batch waits for a block before it is announced, and between two announcements."""


class Announcements:
    """When to name which batches."""

    def __init__(self, batches: BatchStore) -> None:
        self._batches = batches
        self._last_ms = 0

    def at_ms(self, oldest_ms: int | None) -> int | None:
        """Monotonic time of the next announcement; None while blocks take up everything.

        Args:
            oldest_ms: When the oldest batch arrived that no block on its way holds.
        """
        if oldest_ms is None:
            return None
        return max(oldest_ms, self._last_ms) + ANNOUNCE_MS

    def take(self, oldest_ms: int | None, state: State, now_ms: int) -> tuple[Hash, ...]:
        """Digests to name now: of what has waited for long and is not executed already, by another batch."""
        at_ms = self.at_ms(oldest_ms)
        if at_ms is None or now_ms < at_ms:
            return ()
        self._last_ms = now_ms
        old = (held for held in self._batches.pending() if held.arrived_ms + ANNOUNCE_MS <= now_ms)
        open_ = (held.digest for held in old if not all(map(state.remembered, held.ids)))
        return tuple(islice(open_, MAX_ANNOUNCED))
