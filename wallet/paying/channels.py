"""Our own channels, as payments need them.

Source: `wallet.channel`.
"""

from __future__ import annotations

from layer1.crypto import Hash, PublicKey
from wallet.channel import Channel
from wallet.follower import Follower
from wallet.parts import Parts
from wallet.paying.ways import Direct
from wallet.peers import Peers


class OwnChannels:
    """Of one open wallet."""

    def __init__(self, parts: Parts, peers: Peers, follower: Follower) -> None:
        self._parts, self._peers, self._follower = parts, peers, follower

    def with_peer(self, peer: PublicKey) -> list[Direct]:
        """Those that are open with it, the one that can send most first."""
        found = []
        for record in self._parts.book.with_peer(peer):
            view = Channel(self._parts, self._peers, self._follower, record.group_id).view()
            if view.state == "open":
                found.append(Direct(record.group_id, view.can_send))
        return sorted(found, key=lambda each: -each.can_send)

    async def reach(self, group_id: Hash) -> None:
        """Wait until the peer is in step; raises Refused."""
        await Channel(self._parts, self._peers, self._follower, group_id).reach()
