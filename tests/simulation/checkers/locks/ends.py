"""Ends: every lock ends, and what its honest ends were told of it is where the money went, the same at both.

Source: docs/design/groups.md, rules 20 and 21; issue 6: "every payment ends as paid, failed or refunded, with both ends
agreeing".
"""

from __future__ import annotations

from layer1.crypto import Hash
from layer1.ledger.records import Status
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.groups.standing import outcome
from wallet.lock_news import Ended


class LockEnds(GroupChecker):
    """What is told of ends."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._told: dict[tuple[int, Hash, int], bool] = {}
        """By wallet, group and lock: whether the payee has it."""

    def ended(self, wallet: int, group_id: Hash, ended: Ended) -> None:
        name = (wallet, group_id, ended.lock.id)
        if self._told.setdefault(name, ended.is_paid) != ended.is_paid:
            self.fail(f"wallet {wallet} is told two ends of lock {ended.lock.id} of group {group_id.hex()[:8]}")

    def finish(self) -> None:
        for group_id, facts in self.facts.groups.items():
            left = [each.lock.id for each in facts.ledger.locks if each.paid_to is None]
            if facts.ledger.status is Status.CLOSED and left:
                self.fail(f"locks {left} of group {group_id.hex()[:8]} pend for ever")
        for (wallet, group_id, number), is_paid in self._told.items():
            member = self.facts.member(wallet, group_id)
            found = None if member is None else outcome(self.facts.groups[group_id], member, number)
            if member is not None and (found is None or found[1] != is_paid):
                words = {True: "its payee has it", False: "its payer has it"}
                truth = "it never stood" if found is None else words[found[1]]
                self.fail(
                    f"wallet {wallet} was told of lock {number} of group {group_id.hex()[:8]} that {words[is_paid]}, "
                    f"and {truth}"
                )
