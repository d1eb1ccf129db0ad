"""Bounties: a delegate is paid out of what its member gains from others' bonds, and no more than was promised.

Source: docs/design/groups.md, rules 16 and 17.
"""

from __future__ import annotations

from layer1.ledger.records import Forfeit, Status
from layer1.ledger.records import Group as LedgerGroup
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts


class Bounties(GroupChecker):
    """Who pays for a report."""

    def __init__(self, facts: Facts, promised: int) -> None:
        """`promised` is the most that any honest member promises, units."""
        super().__init__(facts)
        self._promised = promised

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        if after.status is not Status.CLOSED:
            return
        name = after.group_id.hex()[:8]
        for bounty in after.bounties:
            gained = sum(self._share(after, i) for i in range(len(after.forfeits)) if i != bounty.member)
            if bounty.units > gained:
                self.fail(f"member {bounty.member} of group {name} pays {bounty.units}, and gained {gained} at most")
            if bounty.member in self.facts.groups[after.group_id].honest and bounty.units > self._promised:
                self.fail(f"member {bounty.member} of group {name} pays {bounty.units} of {self._promised} promised")

    @staticmethod
    def _share(group: LedgerGroup, loser: int) -> int:
        """The most that any one of the others gets of its bond."""
        why, bond = group.forfeits[loser], group.agreement.members[loser].bond
        if why is None:
            return 0
        heirs = len(group.forfeits) - 1 if why is Forfeit.LIE else 1
        return -(-bond // heirs)
