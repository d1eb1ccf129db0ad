"""How much of what a replica holds one peer may ask for.

What: an allowance of bytes per peer, which refills; beyond it a question stays unanswered. And one load from storage.

*Safety:* a question of a few bytes is answered with megabytes, so who asks without end would have all our time and
bandwidth. A peer that catches up needs a fraction of its allowance, and asks another replica when it hears nothing.

*Source:* docs/design/consensus.md, "Catching up, joining, leaving".
"""

from __future__ import annotations

BYTES_PER_S = 8 * 2**20
"""More than a replica can execute of what it fetches, by far."""
BURST_BYTES = 32 * 2**20
"""Several answers of full size."""
LEAST_BYTES = 2_048
"""What any question counts: to look for its answer costs time, too."""


class Allowances:
    """What each peer may still be served."""

    def __init__(self) -> None:
        self._left: dict[int, tuple[float, int]] = {}
        """By peer: bytes, and when they were so many."""

    def has(self, peer: int, now_ms: int) -> bool:
        """Whether this peer may be answered now; the answer may be the one that uses it up."""
        return self._now(peer, now_ms) > 0

    def use(self, peer: int, size: int, now_ms: int) -> None:
        """It was served an answer of so many bytes."""
        self._left[peer] = self._now(peer, now_ms) - max(size, LEAST_BYTES), now_ms

    def _now(self, peer: int, now_ms: int) -> float:
        left, at_ms = self._left.get(peer, (BURST_BYTES, now_ms))
        return min(BURST_BYTES, left + (now_ms - at_ms) * BYTES_PER_S / 1000)


class Loads:
    """Which peers' questions for old blocks storage works on: one at a time for each, however often its link breaks.

    A peer that comes back asks anew. Were its load forgotten with its link, it could have any number of them running,
    each with an answer of full size in memory; so the one that runs is seen to its end, and what is asked now waits.
    """

    def __init__(self) -> None:
        self._running: dict[int, int | None] = {}
        """By peer: the height that it wants blocks from; None if it asked over a link that is gone."""

    def __contains__(self, peer: int) -> bool:
        return peer in self._running

    def reconnected(self, peer: int) -> None:
        """A new link: the peer may not know any more that it asked."""
        if peer in self._running:
            self._running[peer] = None

    def ask(self, peer: int, first: int) -> bool:
        """The peer asks for blocks from this height on; whether to load them now."""
        running = peer in self._running
        if not running or self._running[peer] is None:
            self._running[peer] = first
        return not running

    def loaded(self, peer: int, first: int) -> int | None:
        """Blocks from `first` on are here: the height that the peer wants, if it still does.

        If that is another one, it is to be loaded now, and the peer is waited for on.
        """
        wanted = self._running.pop(peer, None)
        if wanted is not None and wanted != first:
            self._running[peer] = wanted
        return wanted
