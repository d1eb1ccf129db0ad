"""A replica whose machine is restored from yesterday's backup: honest code that does not know what it signed since.

Source: docs/design/consensus.md, "Persist before sending" ("indistinguishable from an equivocator").
"""

from __future__ import annotations

from tests.simulation.byzantine.role import Role
from tests.simulation.kernel import MS, Action


class OldCopy(Role):
    """Goes back in time again and again."""

    def begin(self) -> None:
        self._backup = self.host.disk.copy()
        self._later(self._restore)

    def _restore(self) -> None:
        self.host.kill()
        self.host.disk.restore(self._backup)
        self.host.world.note(f"replica{self.host.index}", "is restored from an old copy")
        self.host.world.stats["old copies restored"] += 1
        self.host.world.after(self.random.randint(1, 500) * MS, self.host.start)
        self._later(self._back_up)

    def _back_up(self) -> None:
        self._backup = self.host.disk.copy()
        self._later(self._restore)

    def _later(self, then: Action) -> None:
        self.host.world.after(self.random.randint(100, 2_000) * MS, then)
