"""Links between wallets as `GroupHost` uses them, over the connections of the simulated network.

Source: layer1/link.py, wallet/peers.py; `layer2.hosting.Channel`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable

from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import Refused
from layer1.link import LinkClosed
from layer2.driver import GroupHost
from layer2.messages import OpeningMessage
from tests.simulation.groups.loop import ProcessLoop
from wallet.contacts import Contact
from wallet.peers import Peers


class SimulatedLink:
    """One end of one connection."""

    def __init__(
        self, peer: PublicKey, loop: ProcessLoop, leave: Callable[[bytes], None], hang_up: Callable[[], None]
    ) -> None:
        self._peer = peer
        self._loop = loop
        self._leave = leave
        self._hang_up = hang_up
        self._inbox: deque[bytes] = deque()
        self._ended = ""
        self._news = asyncio.Event()

    @property
    def peer(self) -> PublicKey:
        """Whose key the other side has."""
        return self._peer

    def send_nowait(self, data: bytes) -> bool:
        """Queue a message; False if the link has ended."""
        if self._ended or self._loop.dead:
            return False
        self._leave(data)
        return True

    async def receive(self) -> bytes:
        """The next message."""
        while not self._inbox:
            if self._ended:
                raise LinkClosed(self._ended)
            self._news.clear()
            await self._news.wait()
        return self._inbox.popleft()

    def cut(self, reason: str) -> None:
        """End the link at once, and drop what came from it."""
        self._inbox.clear()
        self.end(reason)
        self._hang_up()

    async def close(self, reason: str = "") -> None:
        """End the link."""
        self.end(reason or "closed")

    def end(self, reason: str) -> None:
        """It is gone."""
        self._ended = self._ended or reason
        self._news.set()

    def deliver(self, data: bytes) -> None:
        """A message came."""
        if not self._ended:
            self._inbox.append(data)
            self._news.set()


class SimulatedPeers(Peers):
    """The network dials for us; all that is left is to use what link there is."""

    def __init__(self, key: SigningKey, chain_id: Hash, host: GroupHost) -> None:
        super().__init__(key, chain_id, host)

    def keep(self) -> None:
        """Links are kept."""

    async def say(self, contact: Contact, message: OpeningMessage) -> None:
        """Send to a wallet.

        Raises:
            Refused: ``peer_unreachable``.
        """
        if not self._host.send_opening(contact.address, message):
            raise Refused("peer_unreachable", "no link to it now")
