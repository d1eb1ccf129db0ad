"""It comes back from yesterday's copy of its disk, with an honest heart: it does not know what it signed since (F5)."""

from __future__ import annotations

from random import Random

from tests.simulation.groups.home import Home
from tests.simulation.groups.roles.role import Host, Role


class Restored(Role):
    """The one member whose disk does not keep what it confirmed."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._copy: Home | None = None

    def act(self) -> None:
        if self._copy is None:
            if self.random.random() < 0.3:
                self._copy = self.host.home.copy()
        elif self.random.random() < 0.15:
            self.host.kill()
            self.host.home, self._copy = self._copy, None
            self.host.start()
