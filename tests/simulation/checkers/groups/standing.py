"""What batches of payments and of conditional payments come to, reckoned apart from the machine that applies them.

Source: docs/design/groups.md, rule 20; decision 036.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

from layer1.ledger.agreements import Lock
from layer2.messages import Batch
from layer2.payments import Claim, Offer, Pay, read_command
from tests.simulation.checkers.groups.facts import EPOCH, GroupFacts, Member

_read = lru_cache(maxsize=50_000)(read_command)
"""A batch is looked at again and again."""


@dataclass
class Standing:
    """Of one member's copy of a group."""

    balances: list[int]
    """By place; what is locked is in none of them."""
    count: int = 0
    """Locks that there ever were."""
    locks: dict[int, Lock] = field(default_factory=dict)
    """That pend, by id."""
    ended: dict[int, tuple[Lock, bool]] = field(default_factory=dict)
    """Those that members have ended, and whether their payees have the money."""

    def apply(self, batch: Batch) -> None:
        """One version more."""
        for command in batch.commands:
            self._apply(command.member, _read(command.payload))

    def _apply(self, issuer: int, request: object) -> None:
        match request:
            case Pay(payee, amount):
                self.balances[issuer] -= amount
                self.balances[payee] += amount
            case Offer(payee, amount, hashed, expiry_ms):
                self.count += 1
                self.balances[issuer] -= amount
                self.locks[self.count] = Lock(self.count, issuer, payee, amount, hashed, expiry_ms)
            case _:
                lock = self.locks.pop(request.lock)  # type: ignore[attr-defined]  # the three that end one
                is_paid = isinstance(request, Claim)
                self.balances[lock.payee if is_paid else lock.payer] += lock.amount
                self.ended[lock.id] = lock, is_paid


def standing(facts: GroupFacts, member: Member, deposits: Sequence[int], version: int) -> Standing:
    """Of a member that stands at a version of an epoch that began with these deposits; its locks of all epochs."""
    before = _applied(member, [], (each for each in facts.applied(version) if each // EPOCH != version // EPOCH))
    now = Standing(list(deposits), before.count, {}, before.ended)
    for each in range(version // EPOCH * EPOCH + 1, version + 1):
        now.apply(member.batches[each])
    return now


def _applied(member: Member, deposits: list[int], versions: Iterable[int]) -> Standing:
    result = Standing(deposits or [0] * 16)
    for each in versions:
        result.apply(member.batches[each])
    return result


def outcome(facts: GroupFacts, member: Member, number: int) -> tuple[Lock, bool] | None:
    """What became of a lock of a group that is closed, and whether its payee has the money; None if it never stood."""
    version = facts.settled_version
    assert version is not None, "it is closed"
    deposits = [each.deposit for each in facts.ledger.agreement.members]
    ended = standing(facts, member, deposits, version).ended.get(number)
    if ended is not None:
        return ended
    left = next((each for each in facts.ledger.locks if each.lock.id == number), None)
    return None if left is None else (left.lock, left.paid_to == left.lock.payee)
