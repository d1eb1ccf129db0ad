"""Signatures: no honest member signs the end of a lock of its own at a time at which it might lose by it.

No payer signs a claim when so little of the time is left that whoever paid it for the same preimage could refuse it,
unless the preimage was registered in time; no payee signs an expiry while it might be paid by the registry yet. And
nobody signs an offer in its own name that its user did not ask for, unless a lock that came in, and is committed, is
worth it, under the same hash, until the same time, with the fee (rule 23).

Source: docs/design/groups.md, rules 21 and 22 [F9]; `layer2.guarding`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from layer2.payments import Claim, Expire, Offer, read_command
from layer2.records import HostRecord, Signed
from tests.simulation.checkers.groups.base import GroupChecker
from tests.simulation.checkers.groups.facts import Facts, GroupFacts, Member, ordinal
from tests.simulation.checkers.groups.standing import Standing, standing


class LockSignatures(GroupChecker):
    """What honest members sign."""

    def __init__(self, facts: Facts, least_ms: int, fee: int = 0) -> None:
        """Begin.

        Args:
            facts: About all groups.
            least_ms: Must be left of a lock when its payer signs a claim: M, less how old a proven clock may be.
            fee: Of everybody, for each payment that it forwards.
        """
        super().__init__(facts)
        self._least_ms, self._fee = least_ms, fee
        self._offered: set[tuple[int, Hash, Hash, int]] = set()

    def offering(self, wallet: int, group_id: Hash, amount: int, hashed: Hash) -> None:
        self._offered.add((wallet, group_id, hashed, amount))

    def synced(self, wallet: int, records: Sequence[HostRecord]) -> None:
        for record in records:
            member = self.facts.member(wallet, record.group_id)
            if isinstance(record, Signed) and member is not None:
                self._signed(self.facts.groups[record.group_id], member, record)

    def _signed(self, facts: GroupFacts, member: Member, record: Signed) -> None:
        version = ordinal(record.propose.header)
        commands = [(c.member, read_command(c.payload)) for c in member.batches[version].commands]
        if not any(isinstance(request, Offer | Claim | Expire) for _, request in commands):
            return
        deposits = [each.deposit for each in facts.ledger.agreement.members]
        before = standing(facts, member, deposits, version - 1)
        for issuer, request in commands:
            mine = issuer == member.index
            if isinstance(request, Offer) and mine:
                self._check_offer(member, record.group_id, request)
            elif isinstance(request, Claim) and not mine:
                self._check_claim(member, self._lock(before, request.lock, version))
            elif isinstance(request, Expire) and not mine:
                self._check_expire(member, self._lock(before, request.lock, version))

    def _lock(self, before: Standing, number: int, version: int) -> Lock:
        lock = before.locks.get(number)
        if lock is None:
            self.fail(f"version {version} ends lock {number}, which it makes, or which does not stand")
        assert lock is not None, "it failed"
        return lock

    def _check_offer(self, member: Member, group_id: Hash, offer: Offer) -> None:
        asked = (member.wallet, group_id, offer.hash, offer.amount) in self._offered
        if not asked and not any(self._is_worth(lock, offer) for lock in self._coming(member.wallet, group_id)):
            self.fail(
                f"wallet {member.wallet} signs an offer of {offer.amount} units that its user never made, and no lock "
                "for it came in"
            )

    def _is_worth(self, lock: Lock, offer: Offer) -> bool:
        same = (lock.hash, lock.expiry_ms) == (offer.hash, offer.expiry_ms)
        return same and lock.amount >= offer.amount + self._fee

    def _coming(self, wallet: int, away: Hash) -> Iterator[Lock]:
        """Locks for a wallet that are committed, in its other groups, or were in a version before the newest one."""
        for group_id, facts in self.facts.groups.items():
            member = next((each for each in facts.honest.values() if each.wallet == wallet), None)
            if member is not None and group_id != away:
                deposits = [each.deposit for each in facts.ledger.agreement.members]
                stands = standing(facts, member, deposits, member.certified)
                ended = (lock for lock, _ in stands.ended.values())
                yield from (lock for lock in (*stands.locks.values(), *ended) if lock.payee == member.index)

    def _check_claim(self, member: Member, lock: Lock) -> None:
        left_ms, registered_ms = lock.expiry_ms - self.facts.clock_ms, self.facts.registered.get(lock.hash)
        timely = registered_ms is not None and registered_ms <= lock.expiry_ms
        if lock.payer == member.index and left_ms < self._least_ms and not timely:
            self.fail(
                f"wallet {member.wallet} signs that lock {lock.id} is claimed, {left_ms} ms before its expiry: at "
                f"least {self._least_ms} ms are to be left, its preimage was not registered in time ({registered_ms})"
            )

    def _check_expire(self, member: Member, lock: Lock) -> None:
        registered_ms = self.facts.registered.get(lock.hash)
        if lock.payee == member.index and self.facts.clock_ms <= lock.expiry_ms:
            self.fail(f"wallet {member.wallet} signs that lock {lock.id} is over, before its expiry {lock.expiry_ms}")
        if lock.payee == member.index and registered_ms is not None and registered_ms <= lock.expiry_ms:
            self.fail(
                f"wallet {member.wallet} signs that lock {lock.id} is over; it was registered at {registered_ms}, "
                "in time"
            )
