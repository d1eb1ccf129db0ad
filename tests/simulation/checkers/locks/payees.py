"""Payees: an honest payee that claimed a lock in time has its money in the end.

Source: docs/design/groups.md, rules 21 to 23; `wallet.locking`.
"""

from __future__ import annotations

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.groups.standing import outcome


class LockPayees(GroupChecker):
    """Claims that were durable in time."""

    def __init__(self, facts: Facts, least_ms: int) -> None:
        """In time is what leaves `least_ms` until the expiry: M, and for how long faults keep a wallet from acting."""
        super().__init__(facts)
        self._least_ms = least_ms
        self._claims: set[tuple[int, Hash, int]] = set()

    def claiming(self, wallet: int, group_id: Hash, lock: Lock) -> None:
        if lock.expiry_ms - self.facts.clock_ms >= self._least_ms:
            self._claims.add((wallet, group_id, lock.id))

    def finish(self) -> None:
        for wallet, group_id, number in sorted(self._claims):
            member = self.facts.member(wallet, group_id)
            if member is None:
                continue  # it lost its data since, and the preimage with it
            found = outcome(self.facts.groups[group_id], member, number)
            if found is None or not found[1]:
                became = "never stood in the state that counts" if found is None else "went back to its payer"
                self.fail(
                    f"wallet {wallet} claimed lock {number} of group {group_id.hex()[:8]} in time, and it {became}"
                )
