"""A signature withheld at every step, and then the attempt to frame who waits for it (rule 15).

From its signature number `step` on it keeps what it signs to itself, for one other or for all; so it holds
certificates that others lack. It wedges with the newest of them, or with an old one, and brings the newest later.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from layer1.ledger.transactions import CloseGroup, Report
from layer2.events import Payload
from layer2.messages import (
    Accept,
    Ack,
    ChangeAccept,
    ChangeProposal,
    FinalAccept,
    FinalProposal,
    FinalReady,
    Hold,
    Propose,
    decode_message,
)
from tests.simulation.groups.roles.role import Host, Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot

SIGNED = (Propose, Accept, FinalProposal, FinalAccept, FinalReady, ChangeProposal, ChangeAccept, Ack, Hold)
"""What carries its signature, or others' that it collected."""
STEPS = 24
"""Of a run, that seeds go through."""


class WithholdingAt(Role):
    """Stingy from some step on."""

    host: MemberProcess

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._signed = 0
        self._from_all = random.random() < 0.5
        self._frames = random.random() < 0.7
        self._shows_old = random.random() < 0.4

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = decode_message(data)
        if not isinstance(message, SIGNED):
            return (data,)
        self._signed += 1
        if self._signed <= self.host.step % STEPS or not (self._from_all or peer == self._victim):
            return (data,)
        self.host.world.stats["signatures withheld"] += 1
        return ()

    @property
    def _victim(self) -> int:
        return 1 if self.host.index == 0 else 0

    def act(self) -> None:
        if not self._frames or self.host.part < 0.7:
            return
        for group_id, group in self.seen.items():
            if not group.closed:
                newest = max(self.known[group_id])
                if self._shows_old:
                    self.host.bring(self.wedge(group_id, self.old_version(group_id)))
                if not self._shows_old or self.random.random() < 0.1:
                    certificate, body = self.known[group_id][newest]
                    self.host.bring(self.wedge(group_id, newest))
                    self.host.bring(Report(group_id, certificate, body))

    def brings(self, payload: Payload) -> bool:
        return not isinstance(payload, CloseGroup) or self.random.random() < 0.5


class Withheld(Plot):
    """An honest member is never slashed."""

    def begin(self) -> None:
        self.corrupt(WithholdingAt)
