"""Innocence: no honest replica ever says that another honest one broke the protocol.

Whatever an honest replica sends, however late, lost or doubled it arrives, is at worst useless: evidence and counters
name the guilty only.
"""

from __future__ import annotations

from tests.simulation.checkers.base import Checker


class Innocence(Checker):
    """Accusations among the honest."""

    def misbehaved(self, replica: int, accused: int, reason: str) -> None:
        if accused in self.honest and accused != replica:
            self.fail(f"replica {replica} accuses {accused}, which is honest: {reason}")
