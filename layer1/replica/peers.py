"""Links with all other replicas, kept as long as we run: the lower index dials, the higher one listens.

Safety: whatever comes from here comes from the replica of that index, or from nobody.

Source: docs/design/architecture.md, "HTTP and links"; consensus.md, "Persist before sending".
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from layer1.codec import decode, encode, leading_number
from layer1.conduct import Conduct
from layer1.config import ReplicaConfig
from layer1.crypto import PublicKey, SigningKey
from layer1.errors import RemoteError
from layer1.handshake import Refusal, misfit
from layer1.ledger.genesis import Genesis
from layer1.link import Link, LinkClosed, connect
from layer1.link_server import LinkServer
from layer1.replica.messages import WIRE_VERSION, Greeting

FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
"""Between two attempts to reach a peer; a restarted one is back within this."""

MESSAGES_PER_TURN = 64
"""Of one link, before the others have their turn."""

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Who uses the links. All of it is called on the loop."""

    def refuse(self, peer: int, generation: int) -> bytes | None:
        """None if this peer may have a link while its journal is of this generation; else our only words to it."""
        ...

    def link_up(self, peer: int, generation: int) -> None:
        """A link is open."""
        ...

    def received(self, peer: int, data: bytes) -> None:
        """A message came."""
        ...

    def link_down(self, peer: int) -> None:
        """The link ended."""
        ...


class PeerLinks:
    """One link with every peer that can be reached."""

    def __init__(
        self, config: ReplicaConfig, genesis: Genesis, key: SigningKey, generation: Callable[[], int], host: Host
    ) -> None:
        self.links: dict[int, Link] = {}
        """Open ones, by index of the peer."""
        self._config = config
        self._genesis = genesis
        self._key = key
        self._generation = generation
        self._host = host
        self._server = LinkServer(key, genesis.chain_id, self._admit, self._serve, greeting=self._greeting)
        self._dialers: list[asyncio.Task[None]] = []
        self._over = False
        self._conduct: Conduct[int] = Conduct()
        self.cut_off: Counter[int] = Counter()
        """Links cut because the peer broke the protocol, by peer."""
        self.problems: dict[int, str] = {}
        """Why there is no link with a peer, as far as it shows here."""

    async def listen(self) -> int:
        """Take in links; the port.

        Raises:
            OSError: The address is taken.
        """
        link = self._config.link
        return await self._server.start(link.host, link.port, reuse_port=self._config.reuse_port)

    def dial(self) -> None:
        """Keep links to all replicas of a higher index."""
        higher = [peer.index for peer in self._config.peers if peer.index > self._config.index]
        self._dialers = [asyncio.create_task(self._dial(index)) for index in higher]

    async def stop(self) -> None:
        """End all links. Harmless when repeated."""
        self._over = True
        for task in self._dialers:
            task.cancel()
        await asyncio.gather(*self._dialers, return_exceptions=True)
        await self._server.stop()

    @property
    def strangers(self) -> int:
        """Connections that were refused."""
        return sum(self._server.rejected.values())

    def send(self, link: Link | None, data: bytes) -> None:
        """Send over one link, if it is still open, or to all peers."""
        for one in self.links.values() if link is None else (link,):
            one.send_nowait(data)

    def charge(self, peer: int) -> float:
        """Count a fault of this peer; seconds for which it is cut off now, 0 while that is within its budget."""
        pause_s = self._conduct.charge(peer, time.monotonic())
        if pause_s:
            self.cut_off[peer] += 1
            if (link := self.links.get(peer)) is not None:
                link.cut("it broke the protocol too often")
        return pause_s

    def _greeting(self) -> bytes:
        return encode(Greeting(WIRE_VERSION, self._generation()))

    def _peer_of(self, key: PublicKey, greeting: bytes) -> tuple[int, int]:
        """Index and journal generation of who proved to hold `key`.

        Raises:
            RemoteError: No replica, or none that we understand.
            Refusal: It speaks another wire version.
        """
        if key not in self._genesis.replicas:
            raise RemoteError(f"{key.hex()} is no replica")
        index = self._genesis.replicas.index(key)
        version = leading_number(greeting)
        if (
            version is not None and version != WIRE_VERSION
        ):  # of another one, only this number has to be where it is in ours
            raise misfit("wire", version, WIRE_VERSION)
        said = decode(greeting, Greeting)
        if said.generation < 0:
            raise RemoteError(f"replica {index} runs on journal {said.generation}; there is none below 1")
        return index, said.generation

    def _note(self, index: int, problem: str) -> None:
        """Why there is no link with this peer; logged when it changes, since attempts go on every few seconds."""
        if self.problems.get(index) != problem:
            self.problems[index] = problem
            _log.warning("no link with replica %d: %s", index, problem)

    def _admit(self, key: PublicKey, greeting: bytes) -> bool:
        """Only replicas of a lower index dial us; not while they are cut off."""
        try:
            index, _ = self._peer_of(key, greeting)
            return index < self._config.index and not self._conduct.out_s(index, time.monotonic())
        except RemoteError as error:
            _log.debug("a link was refused: %s", error)
            return False
        except Refusal as refusal:
            self._note(self._genesis.replicas.index(key), refusal.words)
            raise

    async def _serve(self, link: Link) -> None:
        """Serve one link to its end."""
        try:
            index, generation = self._peer_of(link.peer, link.greeting)
        except RemoteError as error:
            _log.warning("a link was refused: %s", error)
            return
        except Refusal as refusal:
            self._note(self._genesis.replicas.index(link.peer), refusal.words)
            return
        last_words = self._host.refuse(index, generation)
        if last_words is not None:
            link.send_nowait(last_words)
            await link.close("refused")
            return
        before, self.links[index] = self.links.get(index), link
        self.problems.pop(index, None)
        self._host.link_up(index, generation)
        if before is not None:
            await before.close("replaced by a newer link")
        try:
            heard = 0
            while not self._over:
                data = await link.receive()
                if self.links.get(index) is not link:
                    return  # replaced: who asked over it is gone, and its peer would not know of an answer
                self._host.received(index, data)
                heard += 1
                if heard % MESSAGES_PER_TURN == 0:
                    await asyncio.sleep(0)
        except LinkClosed as error:
            self.problems[index] = f"the link ended: {error}"
            _log.debug("the link to replica %d ended: %s", index, error)
        finally:
            if self.links.get(index) is link:
                del self.links[index]
                self._host.link_down(index)

    async def _dial(self, index: int) -> None:
        """Keep a link to this replica, as long as we run."""
        peer, key = self._config.peer(index), self._genesis.replicas[index]
        assert peer is not None, "checked at the start"
        backoff_s = FIRST_BACKOFF_S
        while not self._over:
            await asyncio.sleep(self._conduct.out_s(index, time.monotonic()))
            try:
                link = await connect(
                    peer.link.host,
                    peer.link.port,
                    self._key,
                    self._genesis.chain_id,
                    expect=key,
                    greeting=self._greeting(),
                )
            except LinkClosed as error:
                self._note(index, str(error))
            else:
                backoff_s = FIRST_BACKOFF_S
                try:
                    await self._serve(link)
                except Exception:  # noqa: BLE001 - as for links that we accept: it ends, and is made anew
                    _log.exception("serving the link with replica %d failed", index)
                finally:
                    await link.close()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts, guards nothing
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
