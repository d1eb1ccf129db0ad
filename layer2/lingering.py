"""A primary's `Commit`, or `Acks`, lingers for a moment: the next proposal says the same, and often follows at once.

Whoever issues one command after the other issues the next one when it is told that the last is committed, a few
iterations of the loop after the certificate is there. A `Commit` that left at once would cost each member a message,
and a sync of its own. Without a proposal it leaves all the same; a lost one is mended like any message.

Safety: nothing but when a message leaves is changed, and not its order among those to the same member of a group.

Source: docs/design/groups.md, rules 3 and 4.
"""

from __future__ import annotations

import asyncio

from layer1.codec import encode
from layer1.crypto import Hash
from layer2.events import Send
from layer2.hosting import Channel
from layer2.messages import Acks, Commit, GroupMessage, Propose

TURNS = 4
"""Iterations of the event loop, in which nothing is waited for: one tells that the last command is committed, in the
next whoever waited for that issues another, which is proposed in the third; one to spare."""


_Lingering = Commit | Acks


class Outgoing:
    """What leaves for the members of all groups."""

    def __init__(self) -> None:
        self._lingering: dict[tuple[Hash, int], tuple[_Lingering, Channel]] = {}
        self._waits = False

    def send(self, group_id: Hash, effect: Send, link: Channel) -> None:
        """Hand it to the link: at once, or in a few iterations of the loop unless a proposal says the same before."""
        key, message = (group_id, effect.member), effect.message
        lingering = self._lingering.pop(key, None)
        if lingering is not None and not _says(message, lingering[0]):
            _hand(*lingering)
        if not isinstance(message, _Lingering):
            _hand(message, link)
            return
        self._lingering[key] = message, link
        if not self._waits:
            self._wait(TURNS)

    def flush(self, link: Channel) -> None:
        """Hand on what lingers for a link that ends; it may be closed in order, and then that still arrives."""
        for key in [key for key, (_, by) in self._lingering.items() if by is link]:
            _hand(*self._lingering.pop(key))

    def _wait(self, turns: int) -> None:
        self._waits = turns > 0
        if self._waits:
            asyncio.get_running_loop().call_soon(self._wait, turns - 1)
            return
        lingering, self._lingering = self._lingering, {}
        for each in lingering.values():
            _hand(*each)


def _says(message: GroupMessage, lingering: _Lingering) -> bool:
    """Whether it is a proposal that carries the same certificate, or the same ACKs."""
    if not isinstance(message, Propose):
        return False
    header = message.header
    if isinstance(lingering, Acks):
        return header.epoch == lingering.epoch and set(lingering.acks) <= set(message.acks)
    before = lingering.certificate.header
    return (header.epoch, header.version) == (before.epoch, before.version + 1)


def _hand(message: GroupMessage, link: Channel) -> None:
    link.send_nowait(encode(message))
