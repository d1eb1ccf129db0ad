"""It wedges with an old state and claims to have signed nothing newer; the true end it keeps to itself."""

from __future__ import annotations

from collections.abc import Iterable

from layer1.ledger.transactions import CloseGroup, Report
from layer2.events import Payload
from layer2.messages import FinalAccept, FinalProposal, decode_message
from tests.simulation.groups.roles.role import Role


class WedgingStale(Role):
    """The attack that the whole watch is made for."""

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if not group.closed and len(self.known[group_id]) > 1 and self.random.random() < 0.2:
                self.host.bring(self.wedge(group_id, self.old_version(group_id)))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        return () if isinstance(decode_message(data), FinalAccept | FinalProposal) else (data,)

    def brings(self, payload: Payload) -> bool:
        return not isinstance(payload, CloseGroup | Report)
