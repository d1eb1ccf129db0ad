"""What flowed: per wallet and hash, what its locks brought in and took out, over all groups of a network that is over.

Reckoned from what honest members signed and what layer 1 paid. Nothing here judges.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from tests.simulation.checkers.groups.facts import Facts, GroupFacts
from tests.simulation.checkers.groups.standing import standing


@dataclass
class Flow:
    """Of one wallet, under one hash."""

    came: int = 0
    """Units of locks that it was paid."""
    came_locks: int = 0
    went: int = 0
    """Units of locks that it paid."""
    went_locks: int = 0


Flows = Mapping[tuple[int, Hash], Flow]


def ended_locks(facts: GroupFacts) -> Iterator[tuple[Lock, bool]]:
    """All locks of a group in versions that count, and whether their payees have the money."""
    version = facts.settled_version
    if version is None or not facts.honest:
        return
    member = next(iter(facts.honest.values()))
    deposits = [each.deposit for each in facts.ledger.agreement.members]
    yield from standing(facts, member, deposits, version).ended.values()
    yield from ((each.lock, each.paid_to == each.lock.payee) for each in facts.ledger.locks)


def flows(facts: Facts) -> Flows:
    """Of all wallets."""
    found: dict[tuple[int, Hash], Flow] = {}
    for group in facts.groups.values():
        wallets = [facts.owner(member.funding) for member in group.ledger.agreement.members]
        for lock, is_paid in ended_locks(group):
            if is_paid:
                payer = found.setdefault((wallets[lock.payer], lock.hash), Flow())
                payee = found.setdefault((wallets[lock.payee], lock.hash), Flow())
                payer.went, payer.went_locks = payer.went + lock.amount, payer.went_locks + 1
                payee.came, payee.came_locks = payee.came + lock.amount, payee.came_locks + 1
    return found
