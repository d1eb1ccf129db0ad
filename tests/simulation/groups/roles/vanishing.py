"""Its process ends at some moment, and it is never seen again."""

from __future__ import annotations

from tests.simulation.groups.roles.role import Role


class Vanishing(Role):
    """Gone for good."""

    def act(self) -> None:
        if self.random.random() < 0.1:
            self.host.gone = True
            self.host.kill()
