"""Payers: an honest payer's lock goes to the payee for its preimage alone, which the payer is told; or it comes back.

Source: docs/design/groups.md, rules 20 and 21.
"""

from __future__ import annotations

from hashlib import sha256

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts
from tests.simulation.checkers.groups.standing import standing
from wallet.lock_news import Ended


class LockPayers(GroupChecker):
    """What honest payers pay for."""

    def __init__(self, facts: Facts) -> None:
        super().__init__(facts)
        self._known: dict[int, set[Hash]] = {}
        """By wallet, under which hashes it was told the preimage."""

    def shown(self, wallet: int, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        if sha256(preimage).digest() != lock.hash:
            self.fail(f"wallet {wallet} is told a preimage of lock {lock.id} that is none")
        self._known.setdefault(wallet, set()).add(lock.hash)

    def ended(self, wallet: int, group_id: Hash, ended: Ended) -> None:
        if ended.preimage is not None:
            self.shown(wallet, group_id, ended.lock, ended.preimage)

    def finish(self) -> None:
        for group_id, facts in self.facts.groups.items():
            version = facts.settled_version
            for index, member in facts.honest.items() if version is not None else ():
                assert version is not None, "it is closed"
                deposits = [each.deposit for each in facts.ledger.agreement.members]
                paid = [lock for lock, is_paid in standing(facts, member, deposits, version).ended.values() if is_paid]
                paid += [each.lock for each in facts.ledger.locks if each.paid_to == each.lock.payee]
                for lock in paid:
                    if lock.payer == index and lock.hash not in self._known.get(member.wallet, ()):
                        self.fail(
                            f"wallet {member.wallet} paid lock {lock.id} of group {group_id.hex()[:8]}, and was never "
                            "told its preimage"
                        )
