"""A stale wedge, at every earlier version: as seeds go up, the version goes through all that there are."""

from __future__ import annotations

from collections.abc import Iterable

from layer1.crypto import Hash
from layer1.ledger.transactions import CloseGroup, Report
from layer2.events import Payload
from layer2.messages import FinalAccept, FinalProposal, decode_message
from tests.simulation.groups.roles.role import Role
from tests.simulation.stories.member import MemberProcess
from tests.simulation.stories.plot import Plot


class StaleAt(Role):
    """At some moment it wedges with version number `step` of those that it held; the true end it keeps to itself."""

    host: MemberProcess
    when = 0.5
    """How much of the first phase is over by then, at least."""

    def act(self) -> None:
        if self.host.part >= self.when:
            for group_id, group in self.seen.items():
                if not group.closed and len(self.known[group_id]) > 1:
                    self.wedge_with(group_id, self.chosen(group_id))

    def chosen(self, group_id: Hash) -> int:
        """An earlier version than the newest."""
        earlier = sorted(self.known[group_id])[:-1]
        return earlier[self.host.step % len(earlier)]

    def wedge_with(self, group_id: Hash, version: int) -> None:
        """Again and again; layer 1 takes the first one."""
        self.host.bring(self.wedge(group_id, version))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        return () if isinstance(decode_message(data), FinalAccept | FinalProposal) else (data,)

    def brings(self, payload: Payload) -> bool:
        return not isinstance(payload, CloseGroup | Report)


class StaleWedge(Plot):
    """The attack that the whole watch is made for."""

    def begin(self) -> None:
        self.corrupt(StaleAt)
