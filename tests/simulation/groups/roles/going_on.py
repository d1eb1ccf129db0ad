"""It wedges with a true CLAIM behind the back of its honest half, which goes on signing: the CLAIM turns false."""

from __future__ import annotations

from tests.simulation.groups.roles.role import Role


class GoingOn(Role):
    """Signs after its CLAIM."""

    def act(self) -> None:
        for group_id, group in self.seen.items():
            if group.claim is None and group.ledger is None and self.random.random() < 0.1:
                self.host.bring(self.wedge(group_id, group.version))
