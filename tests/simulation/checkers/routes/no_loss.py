"""No loss: nobody honest forwards at a loss: what its locks take out under a hash comes in under it, with its fee.

Source: docs/design/groups.md, rules 22 and 23; decision 041.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Set as AbstractSet

from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.routes.flows import flows
from tests.simulation.networks.member import FEE
from tests.simulation.networks.town import Town


class NoLoss(GroupChecker):
    """Whoever is neither payer nor payee."""

    def __init__(self, facts: Facts, town: Town, honest: AbstractSet[int]) -> None:
        """`honest` are wallets that follow the protocol, and never lost data."""
        super().__init__(facts)
        self._town, self._honest = town, honest
        self.lost: Counter[int] = Counter()
        """By wallet that is not judged, what it lost."""

    def finish(self) -> None:
        for (wallet, hashed), flow in flows(self.facts).items():
            attempts = self._town.payments.get(hashed, [])
            if any(wallet in (each.path[0], each.path[-1]) for each in attempts):
                continue
            fees = FEE * flow.went_locks
            if wallet not in self._honest:
                self.lost[wallet] += max(flow.went - flow.came, 0)
            elif flow.came < flow.went + fees:
                self.fail(
                    f"wallet {wallet} forwards payment {hashed.hex()[:8]} at a loss: {flow.came} units came in by "
                    f"{flow.came_locks} locks, {flow.went} went out by {flow.went_locks}, and its fees are {fees}"
                )
