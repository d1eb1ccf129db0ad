"""Outcomes: each lock that a closed group leaves goes where rule 21 says, once, and never before that is certain.

To its payee if the preimage was registered by the expiry, to its payer once the expiry is past, and nowhere until then.

Source: docs/design/groups.md, rule 21.
"""

from __future__ import annotations

from layer1.ledger.records import ClosedLock
from layer1.ledger.records import Group as LedgerGroup
from tests.simulation.checkers.groups.base import GroupChecker


class LockOutcomes(GroupChecker):
    """What layer 1 pays of locks."""

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        known = {each.lock.id: each for each in before.locks} if before is not None else {}
        for each in after.locks:
            paid = known.get(each.lock.id)
            if paid is not None and paid.paid_to is not None:
                if paid.paid_to != each.paid_to:
                    self._fail(after, each, f"was paid to member {paid.paid_to}, and now to {each.paid_to}")
            else:
                self._check(after, each)

    def _check(self, group: LedgerGroup, each: ClosedLock) -> None:
        lock, clock_ms = each.lock, self.facts.clock_ms
        registered_ms = self.facts.registered.get(lock.hash)
        if registered_ms is not None and registered_ms <= lock.expiry_ms:
            due: int | None = lock.payee
        else:
            due = lock.payer if clock_ms > lock.expiry_ms else None
        if each.paid_to in (due, None):
            return  # what is due is paid in this block or in one of the next: `LockEnds` sees to it that it is paid
        self._fail(group, each, f"goes to member {each.paid_to}, and it is due to {due} (registered: {registered_ms})")

    def _fail(self, group: LedgerGroup, each: ClosedLock, what: str) -> None:
        self.fail(
            f"lock {each.lock.id} of group {group.group_id.hex()[:8]}, good until {each.lock.expiry_ms}, {what}, at "
            f"clock {self.facts.clock_ms}"
        )
