"""Links with all other replicas, kept as long as we run: the lower key dials, the higher one listens.

Safety: whatever comes from here comes from the replica of that number, or from nobody.

A replica is known by its key, for that is what it proves; the number that goes with it follows from the replica sets,
and when it changes, the link is cut and made anew. Who has a link: every key that is configured, and every key that
ever was in a set, also those whose address nobody told us. Who dials whom rests on the keys alone, so that both sides
agree on it whatever epoch each is in. Whoever has the higher key tries as well, less often, while there is no link: it
gets one only where its own address is not known.

Source: docs/design/architecture.md, "HTTP and links"; consensus.md, "Persist before sending".
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

from layer1.codec import decode, encode, leading_number
from layer1.conduct import Conduct
from layer1.config import Peer, ReplicaConfig
from layer1.crypto import PublicKey, SigningKey
from layer1.errors import RemoteError
from layer1.handshake import Refusal, misfit
from layer1.ledger.genesis import Genesis
from layer1.ledger.replicas import ReplicaSet
from layer1.link import Link, LinkClosed, connect
from layer1.link_server import LinkServer
from layer1.replica.messages import WIRE_VERSION, Greeting
from layer1.replica.numbers import FIRST_LOCAL, Numbers

FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 2.0
"""Between two attempts to reach a peer; a restarted one is back within this."""

PATIENCE_S = 1.0
"""How long whoever has the higher key waits to be dialed, before it dials."""

MESSAGES_PER_TURN = 64
"""Of one link, before the others have their turn."""

OUR_TURN = "our_turn"
"""Counter of refused connections of peers that we dial ourselves."""

_log = logging.getLogger(__name__)


class Host(Protocol):
    """Who uses the links; peers are numbers. All of it is called on the loop."""

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
        self,
        config: ReplicaConfig,
        genesis: Genesis,
        key: SigningKey,
        generation: Callable[[], int],
        host: Host,
        *,
        sets: Callable[[], Sequence[ReplicaSet]],
    ) -> None:
        """Begin without any.

        Args:
            config: Where we listen, and where the peers do.
            genesis: Of the ledger.
            key: Ours.
            generation: Of our journal, for the greeting.
            host: Who uses the links.
            sets: All replica sets that are known; call :meth:`renumber` when there are more.
        """
        self.links: dict[int, Link] = {}
        """Open ones, by number of the peer."""
        self._config = config
        self._genesis = genesis
        self._key = key
        self._generation = generation
        self._host = host
        self._server = LinkServer(key, genesis.chain_id, self._admit, self._serve, greeting=self._greeting)
        self._dialers: dict[Peer, asyncio.Task[None]] = {}
        self._over = False
        self._conduct: Conduct[PublicKey] = Conduct()
        self.numbers = Numbers(sets, lambda: [peer.key for peer in self._config.peers])
        self.cut_off: Counter[int] = Counter()
        """Links cut because the peer broke the protocol, by peer."""
        self.problems: dict[PublicKey, str] = {}
        """Why there is no link with a peer, as far as it shows here."""

    async def listen(self) -> int:
        """Take in links; the port.

        Raises:
            OSError: The address is taken.
        """
        link = self._config.link
        return await self._server.start(link.host, link.port, reuse_port=self._config.reuse_port)

    def dial(self) -> None:
        """Keep links to all replicas whose address is known."""
        for peer in self._config.peers:
            if peer not in self._dialers:
                self._dialers[peer] = asyncio.create_task(self._dial(peer))

    def reconfigure(self, config: ReplicaConfig) -> None:
        """Go on with other peers. Links with those that are gone, or elsewhere now, end."""
        gone = set(self._config.peers) - set(config.peers)
        self._config = config
        for peer in gone:
            self._dialers.pop(peer).cancel()
            self.problems.pop(peer.key, None)
        self.numbers.forget()
        self.renumber()
        self.dial()

    def renumber(self) -> None:
        """Cut the links with peers whose number is another now; they are made anew."""
        for number, link in list(self.links.items()):
            if self.numbers.of(link.peer) != number:
                link.end("the replica set changed, and with it a number")

    def is_linked(self, key: PublicKey) -> bool:
        """Whether there is a link with this peer."""
        number = self.numbers.of(key)
        return number is not None and number in self.links

    async def stop(self) -> None:
        """End all links. Harmless when repeated."""
        self._over = True
        for task in self._dialers.values():
            task.cancel()
        await asyncio.gather(*self._dialers.values(), return_exceptions=True)
        await self._server.stop()

    @property
    def strangers(self) -> int:
        """Connections that were refused; not those of peers that we dial ourselves."""
        return sum(self._server.rejected.values()) - self._server.rejected[OUR_TURN]

    def send(self, link: Link | None, data: bytes) -> None:
        """Send over one link, if it is still open, or to all peers."""
        for one in self.links.values() if link is None else (link,):
            one.send_nowait(data)

    def charge(self, peer: int) -> float:
        """Count a fault of this peer; seconds for which it is cut off now, 0 while that is within its budget."""
        key = self.numbers.key_of(peer)
        pause_s = 0.0 if key is None else self._conduct.charge(key, time.monotonic())
        if pause_s:
            self.cut_off[peer] += 1
            if (link := self.links.get(peer)) is not None:
                link.cut("it broke the protocol too often")
        return pause_s

    def _greeting(self) -> bytes:
        return encode(Greeting(WIRE_VERSION, self._generation()))

    def _peer_of(self, key: PublicKey, greeting: bytes) -> tuple[int, int]:
        """Number and journal generation of who proved to hold `key`.

        Raises:
            RemoteError: No replica, or none that we understand.
            Refusal: It speaks another wire version.
        """
        number = self.numbers.of(key)
        if number is None or key == self._key.public:
            raise RemoteError(f"{key.hex()} is no replica, and not among the peers that are configured")
        version = leading_number(greeting)
        if (
            version is not None and version != WIRE_VERSION
        ):  # of another one, only this number has to be where it is in ours
            raise misfit("wire", version, WIRE_VERSION)
        said = decode(greeting, Greeting)
        if said.generation < 0:
            raise RemoteError(f"{self._name(key)} runs on journal {said.generation}; there is none below 1")
        return number, said.generation

    def _name(self, key: PublicKey) -> str:
        """For people. A local number says nothing to anybody."""
        number = self.numbers.of(key)
        is_numbered = number is not None and number < FIRST_LOCAL
        return f"replica {number}" if is_numbered else f"the replica with key {key.hex()}"

    def _note(self, key: PublicKey, problem: str) -> None:
        """Why there is no link with this peer; logged when it changes, since attempts go on every few seconds."""
        if self.problems.get(key) != problem:
            self.problems[key] = problem
            _log.warning("no link with %s: %s", self._name(key), problem)

    def _admit(self, key: PublicKey, greeting: bytes) -> bool:
        """Only replicas with a lower key dial us, and those whose address we lack; not while they are cut off."""
        try:
            self._peer_of(key, greeting)
        except RemoteError as error:
            _log.debug("a link was refused: %s", error)
            return False
        except Refusal as refusal:
            self._note(key, refusal.words)
            raise
        if key > self._key.public and self._config.peer(key) is not None:
            raise Refusal(OUR_TURN)
        return not self._conduct.out_s(key, time.monotonic())

    async def _serve(self, link: Link) -> None:
        """Serve one link to its end."""
        try:
            number, generation = self._peer_of(link.peer, link.greeting)
        except RemoteError as error:
            _log.warning("a link was refused: %s", error)
            return
        except Refusal as refusal:
            self._note(link.peer, refusal.words)
            return
        last_words = self._host.refuse(number, generation)
        if last_words is not None:
            link.send_nowait(last_words)
            await link.close("refused")
            return
        before, self.links[number] = self.links.get(number), link
        self.problems.pop(link.peer, None)
        self._host.link_up(number, generation)
        if before is not None:
            await before.close("replaced by a newer link")
        try:
            heard = 0
            while not self._over:
                data = await link.receive()
                if self.links.get(number) is not link:
                    return  # replaced: who asked over it is gone, and its peer would not know of an answer
                self._host.received(number, data)
                heard += 1
                if heard % MESSAGES_PER_TURN == 0:
                    await asyncio.sleep(0)
        except LinkClosed as error:
            self.problems[link.peer] = f"the link ended: {error}"
            _log.debug("the link to %s ended: %s", self._name(link.peer), error)
        finally:
            if self.links.get(number) is link:
                del self.links[number]
                self._host.link_down(number)

    async def _dial(self, peer: Peer) -> None:
        """Keep a link to this replica, as long as we run."""
        ours = self._key.public < peer.key
        backoff_s = FIRST_BACKOFF_S
        while not self._over:
            await asyncio.sleep(self._conduct.out_s(peer.key, time.monotonic()))
            if not ours:
                await asyncio.sleep(PATIENCE_S)
                if self.is_linked(peer.key):
                    continue
            try:
                link = await connect(
                    peer.link.host,
                    peer.link.port,
                    self._key,
                    self._genesis.chain_id,
                    expect=peer.key,
                    greeting=self._greeting(),
                )
            except LinkClosed as error:
                if ours:
                    self._note(peer.key, str(error))
                else:
                    _log.debug("no link with %s: %s", self._name(peer.key), error)
            else:
                backoff_s = FIRST_BACKOFF_S
                try:
                    await self._serve(link)
                except Exception:  # noqa: BLE001 - as for links that we accept: it ends, and is made anew
                    _log.exception("serving the link with %s failed", self._name(peer.key))
                finally:
                    await link.close()
            await asyncio.sleep(backoff_s * random.uniform(0.5, 1.0))  # noqa: S311 - spreads attempts, guards nothing
            backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
