"""Gossip over the links that the groups have: which neighbours there are, what they say, and when something is due.

*Safety:* whatever a neighbour says moves no money; what breaks a limit is charged to it (`layer2.asides`).

A neighbour is the other member of a channel of ours, once it is in step: until then, what is said beside the groups is
kept from it. Witnesses and strangers are told nothing.

Source: decisions 039 and 042; `wallet.routing.gossip` decides, this carries.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

from layer1.codec import decode, encode
from layer1.crypto import Hash, PublicKey
from layer1.errors import Untimely
from layer2.driver import GroupHost
from wallet.routing.announcements import ChannelAnnouncement
from wallet.routing.gossip import Gossip, GraphPage, Spreading, Tell
from wallet.routing.graph import ChannelGraph
from wallet.signals import Signals

ASKED = 3
"""Neighbours that are asked for everything, and have something to tell: one of them may be silent, or lie."""


class Neighbours:
    """Of one wallet."""

    def __init__(self, host: GroupHost, graph: ChannelGraph, signals: Signals) -> None:
        """Begin with nobody.

        Args:
            host: Has the links.
            graph: What is known.
            signals: Told when a neighbour has told all that it knows.
        """
        self._host = host
        self._core = Spreading(graph)
        self._signals = signals
        self._wants_all = False
        self._asked: set[PublicKey] = set()
        self._ticking: asyncio.TimerHandle | None = None
        self._known: dict[PublicKey, set[Hash]] = {}
        """The other members of our channels."""

    def add(self, group_id: Hash, peer: PublicKey) -> None:
        """We have a channel with `peer`."""
        self._known.setdefault(peer, set()).add(group_id)

    def has(self, group_id: Hash, peer: PublicKey) -> bool:
        """Whether we know of it."""
        return group_id in self._known.get(peer, ())

    def drop(self, group_id: Hash, peer: PublicKey) -> None:
        """We have it no more."""
        groups = self._known.get(peer, set())
        groups.discard(group_id)
        if not groups:
            self._known.pop(peer, None)
            self.unlinked(peer)

    def in_step(self, peer: PublicKey) -> None:
        """A channel with `peer` works."""
        if peer in self._known and peer not in self._core.peers:
            self._meet(peer)

    def unlinked(self, peer: PublicKey) -> None:
        """The link to `peer` is gone, or is another one now."""
        self._core.disconnect(peer)
        self._asked.discard(peer)

    def heard(self, peer: PublicKey, data: bytes) -> None:
        """A linked wallet says something beside its groups.

        Raises:
            RemoteError: It broke a limit, or shows what nobody signed.
        """
        if peer not in self._known:
            return  # its channel is gone, or not yet open here: nobody is at fault
        self.in_step(peer)  # it was there a moment before us
        message = cast(Gossip, decode(data, Gossip))  # type: ignore[arg-type]  # a union of structs
        try:
            self._tell(self._core.receive(peer, message, self._now_ms()))
        except Untimely:
            return
        if isinstance(message, GraphPage) and self._core.has_taught(peer) is not None:
            self._asked_enough(peer)

    def _asked_enough(self, peer: PublicKey) -> None:
        """A neighbour has told all; if that was nothing, ask one that was not asked."""
        if not self._core.has_taught(peer):
            self._asked.discard(peer)
            for other in self._core.peers:
                self._ask(other)
        self._signals.notify()

    def announce(self, announcement: ChannelAnnouncement) -> None:
        """Spread an announcement of our own, if it is new."""
        self._tell(self._core.announce(announcement, self._now_ms()))

    def ask(self) -> None:
        """Ask all neighbours for news, those of now and of later, and a few for everything that they know."""
        if self._wants_all:
            return
        self._wants_all = True
        for peer in self._core.peers:
            self._follow(peer)

    @property
    def is_asking(self) -> bool:
        """Whether a neighbour still tells us what it knows."""
        return self._core.is_asking

    def close(self) -> None:
        """Say nothing more."""
        if self._ticking is not None:
            self._ticking.cancel()

    def _meet(self, peer: PublicKey) -> None:
        self._tell(self._core.connect(peer, self._now_ms()))
        if self._wants_all:
            self._follow(peer)

    def _follow(self, peer: PublicKey) -> None:
        self._tell(self._core.follow(peer))
        self._ask(peer)

    def _ask(self, peer: PublicKey) -> None:
        """For everything, unless it was asked, or enough others were."""
        if len(self._asked) < ASKED and (asking := self._core.ask(peer)):
            self._asked.add(peer)
            self._tell(asking)

    def _tell(self, tells: Sequence[Tell]) -> None:
        for tell in tells:
            data = encode(tell.message)
            for peer in tell.peers:
                self._host.say(peer, data)
        self._rest()

    def _rest(self) -> None:
        """Until something is due."""
        if self._ticking is not None:
            self._ticking.cancel()
            self._ticking = None
        if (due_ms := self._core.next_ms) is not None:
            wait_s = max(due_ms - self._now_ms(), 1) / 1_000
            self._ticking = asyncio.get_running_loop().call_later(wait_s, self._tick)

    def _tick(self) -> None:
        self._ticking = None
        self._tell(self._core.tick(self._now_ms()))

    @staticmethod
    def _now_ms() -> int:
        return int(asyncio.get_running_loop().time() * 1_000)
