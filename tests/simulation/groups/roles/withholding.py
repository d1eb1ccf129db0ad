"""From some moment on it keeps some kinds of messages to itself: its signature of a state, of the end, or its word.

Whatever it keeps, it holds a certificate that the other member does not: the other may not lose by that (rule 15).
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from layer2.events import Payload
from layer2.messages import Accept, FinalAccept, FinalProposal, Propose, Resume, Submit, decode_message
from tests.simulation.groups.roles.role import Host, Role

KEPT = ((Accept,), (Accept,), (Propose,), (FinalAccept,), (FinalProposal,), (Accept, Resume), (Submit, FinalAccept))
"""Kinds of messages that are kept together."""


class Withholding(Role):
    """Stingy."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._kept: tuple[type, ...] = ()

    def act(self) -> None:
        self._kept = self.random.choice(KEPT) if self.random.random() < 0.7 else ()
        for group_id, group in self.seen.items():  # and shows layer 1, late, what it alone has
            if self.random.random() < 0.05 and not group.closed:
                self.host.bring(self.wedge(group_id, max(self.known[group_id])))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        return () if isinstance(decode_message(data), self._kept) else (data,)

    def brings(self, payload: Payload) -> bool:
        return self.random.random() < 0.7
