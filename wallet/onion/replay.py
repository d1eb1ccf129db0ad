"""Packets that came before: none is opened twice.

A packet is bound to its lock's hash and expiry, so it can come again only until that expiry; then it is forgotten. The
core is rebuilt from the forwarder's records after a restart: those whose locks stand. One whose lock was released
before may come once more then, which shows its sender what any probe does, and can cost nobody but the sender.

*Safety:* nobody takes the room of others: each neighbour has its own.

Source: Danezis and Goldberg, Sphinx (2009), section 3.6 (the list of seen tags); decision 037.
"""

from __future__ import annotations

from collections import Counter
from heapq import heappop, heappush

from layer1.crypto import Hash
from wallet.onion.errors import ReplayedPacket, TooManyPackets

MOST_OF_A_GROUP = 10_000
"""Packets remembered of one channel: some 2 MB. With thirty locks in a channel, that is each of them made and released
three hundred times before the first one's expiry.
"""


class SeenPackets:
    """The tags of packets whose locks have not expired."""

    def __init__(self, most_of_a_group: int = MOST_OF_A_GROUP) -> None:
        self._most = most_of_a_group
        self._seen: set[bytes] = set()
        self._ends: list[tuple[int, bytes, Hash]] = []
        self._held: Counter[Hash] = Counter()

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, seen: bytes, group_id: Hash, expiry_ms: int) -> None:
        """Remember a packet that came over a channel, before anything is done with it.

        Raises:
            ReplayedPacket: It came before, over whatever channel.
            TooManyPackets: The channel's room is used up, until the first of its packets expires.
        """
        if seen in self._seen:
            raise ReplayedPacket(f"packet {seen.hex()} came before, and its lock expires at {expiry_ms} only")
        if self._held[group_id] >= self._most:
            raise TooManyPackets(f"{self._most} packets of one channel have not expired: it waits for the first")
        self._seen.add(seen)
        self._held[group_id] += 1
        heappush(self._ends, (expiry_ms, seen, group_id))

    def forget(self, clock_ms: int) -> None:
        """Drop those whose locks expired before this ledger clock: no new lock can carry them."""
        while self._ends and self._ends[0][0] < clock_ms:
            _, seen, group_id = heappop(self._ends)
            self._seen.discard(seen)
            self._held[group_id] -= 1
            if not self._held[group_id]:
                del self._held[group_id]
