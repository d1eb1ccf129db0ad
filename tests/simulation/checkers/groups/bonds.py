"""Bonds: no honest member ever loses its own; a claim that the certificate it closes on denies costs its signer's.

Source: docs/design/groups.md, rules 15 and 16.
"""

from __future__ import annotations

from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Reason, Status
from tests.simulation.checkers.groups.base import GroupChecker


class Bonds(GroupChecker):
    """Who forfeits."""

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        name = after.group_id.hex()[:8]
        facts = self.facts.groups[after.group_id]
        knowing = [(i, member) for i, member in facts.bereft.items() if member.knows_its_loss]
        for index, member in (*facts.honest.items(), *knowing):  # an old copy that only liars spoke with: rule 16
            if after.forfeited[index]:
                self.fail(f"wallet {member.wallet} is honest and forfeits its bond in group {name}")
        if after.status is Status.CLOSED and after.reason is not Reason.FINAL:
            self._check_liars(name, after)

    def _check_liars(self, name: str, group: LedgerGroup) -> None:
        for index, claim in enumerate(group.claims[: len(group.forfeits)]):  # a witness has no bond [F4]
            if claim is not None and claim.highest.version < group.version and not group.forfeited[index]:
                self.fail(
                    f"member {index} of group {name} claims to have signed nothing above {claim.highest.version}, the "
                    f"group closes on version {group.version} with its signature, and it keeps its bond"
                )
