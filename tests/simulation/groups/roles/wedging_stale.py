"""It wedges with an old state and claims to have signed nothing newer; the true end it keeps to itself."""

from __future__ import annotations

from layer1.ledger.transactions import CloseGroup, Report
from tests.simulation.groups.roles.role import Payload, Role


class WedgingStale(Role):
    """The attack that the whole watch is made for."""

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if not group.closed and len(self.known[group_id]) > 1 and self.random.random() < 0.2:
                self.host.bring(self.wedge(group_id, self.old_version(group_id)))

    def brings(self, payload: Payload) -> bool:
        return not isinstance(payload, CloseGroup | Report)
