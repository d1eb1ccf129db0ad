"""Packets that came before: none is opened twice.

A packet is bound to its lock's hash and expiry, so it can come again only until that expiry; then it is forgotten. The
core is rebuilt from the forwarder's records after a restart: those whose locks stand. One whose lock was released
before may come once more then, which shows its sender what any probe does, and can cost nobody but the sender.

*Safety:* nobody takes the room of others: each neighbour has its own. When that is used up, the packet that came first
is forgotten: whoever fills it, perhaps by payments that cost nothing because they fail, opens a replay of what came
long before, and closes the channel to nobody. A replay brings a lock of its own, so it costs its sender what the first
one did, and moves no money that is not paid for.

Source: Danezis and Goldberg, Sphinx (2009), section 3.6 (the list of seen tags); decision 037.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from layer1.crypto import Hash
from wallet.onion.errors import ReplayedPacket

MOST_OF_A_GROUP = 10_000
"""Packets remembered of one channel: some 2 MB. With thirty locks in a channel, that is each of them made and released
three hundred times before the first one's expiry.
"""
SPARE = 1_000
"""Ends of packets that are forgotten already may be kept, besides as many as there are packets."""


class SeenPackets:
    """The tags of packets whose locks have not expired."""

    def __init__(self, most_of_a_group: int = MOST_OF_A_GROUP) -> None:
        self._most = most_of_a_group
        self._seen: set[bytes] = set()
        self._held: dict[Hash, dict[bytes, int]] = {}
        """By channel, in the order in which they came: until when."""
        self._ends: list[tuple[int, bytes, Hash]] = []

    def __len__(self) -> int:
        return len(self._seen)

    def note(self, seen: bytes, group_id: Hash, expiry_ms: int) -> None:
        """Remember a packet that came over a channel, before anything is done with it.

        Raises:
            ReplayedPacket: It came before, over whatever channel.
        """
        if seen in self._seen:
            raise ReplayedPacket(f"packet {seen.hex()} came before, and its lock expires at {expiry_ms} only")
        held = self._held.setdefault(group_id, {})
        if len(held) >= self._most:
            self._drop(next(iter(held)), group_id)
        self._seen.add(seen)
        self._held.setdefault(group_id, {})[seen] = expiry_ms
        heappush(self._ends, (expiry_ms, seen, group_id))
        if len(self._ends) > 2 * len(self._seen) + SPARE:
            self._ends = [(end_ms, each, name) for name, those in self._held.items() for each, end_ms in those.items()]
            heapify(self._ends)

    def forget(self, clock_ms: int) -> None:
        """Drop those whose locks expired before this ledger clock: no new lock can carry them."""
        while self._ends and self._ends[0][0] < clock_ms:
            _, seen, group_id = heappop(self._ends)
            if seen in self._held.get(group_id, ()):
                self._drop(seen, group_id)

    def _drop(self, seen: bytes, group_id: Hash) -> None:
        held = self._held[group_id]
        del held[seen]
        self._seen.discard(seen)
        if not held:
            del self._held[group_id]
