"""Every checker of locks takes what a network did, and fails on what it is there to find."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest
from msgspec.structs import replace

from layer1.ledger.agreements import Lock
from layer1.ledger.records import ClosedLock
from layer2.records import Signed
from tests.simulation.checkers.groups.base import GroupChecker, GroupViolation
from tests.simulation.checkers.groups.books import Books
from tests.simulation.checkers.groups.facts import Facts, GroupFacts, Member
from tests.simulation.checkers.groups.standing import outcome, standing
from tests.simulation.checkers.locks.ends import LockEnds
from tests.simulation.checkers.locks.outcomes import LockOutcomes
from tests.simulation.checkers.locks.payees import LockPayees
from tests.simulation.checkers.locks.payers import LockPayers
from tests.simulation.checkers.locks.signatures import LockSignatures
from tests.simulation.networks.network import Network
from tests.simulation.networks.options import drawn
from tests.simulation.networks.plots import PLOTS
from wallet.lock_news import Ended

SEED = sorted(PLOTS).index("closing in the middle")
"""Nobody lies, and locks are claimed, released, paid and returned by layer 1."""


@cache
def network() -> Network:
    story = Network(drawn(SEED, PLOTS))
    assert not story.run().error
    return story


@pytest.fixture
def facts() -> Iterator[Facts]:
    facts = network().facts
    clock_ms, registered = facts.clock_ms, dict(facts.registered)
    yield facts
    facts.clock_ms, facts.registered = clock_ms, registered


def expect(checker: GroupChecker, message: str) -> pytest.RaisesExc[GroupViolation]:
    return pytest.raises(GroupViolation, match=f"{checker.name}: .*{message}")


def closed_locks(facts: Facts) -> list[tuple[GroupFacts, ClosedLock]]:
    return [(group, each) for group in facts.groups.values() for each in group.ledger.locks]


def ended(facts: Facts) -> list[tuple[GroupFacts, Member, Lock, bool]]:
    """By members, in versions that count."""
    found = []
    for group in facts.groups.values():
        member, version = group.honest[0], group.settled_version
        assert version is not None
        deposits = [each.deposit for each in group.ledger.agreement.members]
        found += [
            (group, member, lock, is_paid)
            for lock, is_paid in standing(group, member, deposits, version).ended.values()
        ]
    return found


def test_the_network_has_what_they_look_for(facts: Facts) -> None:
    assert {is_paid for *_, is_paid in ended(facts)} == {True, False}
    assert closed_locks(facts)


def test_outcomes_finds_a_lock_that_goes_to_the_wrong_one(facts: Facts) -> None:
    group, each = closed_locks(facts)[0]
    checker, before = LockOutcomes(facts), replace(each, paid_to=None)
    checker.on_ledger(None, replace(group.ledger, locks=(each,)))
    assert each.paid_to is not None
    for wrong in (1 - each.paid_to,):
        with expect(checker, f"goes to member {wrong}"):
            checker.on_ledger(
                replace(group.ledger, locks=(before,)), replace(group.ledger, locks=(replace(each, paid_to=wrong),))
            )
        with expect(checker, f"was paid to member {each.paid_to}, and now to {wrong}"):
            checker.on_ledger(
                replace(group.ledger, locks=(each,)), replace(group.ledger, locks=(replace(each, paid_to=wrong),))
            )


def test_outcomes_finds_one_that_is_paid_too_soon(facts: Facts) -> None:
    group, each = next(item for item in closed_locks(facts) if item[1].paid_to == item[1].lock.payer)
    facts.registered, facts.clock_ms = {}, each.lock.expiry_ms
    checker = LockOutcomes(facts)
    with expect(checker, "due to None"):
        checker.on_ledger(None, replace(group.ledger, locks=(each,)))
    facts.clock_ms += 1
    checker.on_ledger(None, replace(group.ledger, locks=(each,)))


def test_outcomes_knows_the_last_moment(facts: Facts) -> None:
    group, each = closed_locks(facts)[0]
    paid = replace(each, paid_to=each.lock.payee)
    checker, late_ms = LockOutcomes(facts), each.lock.expiry_ms + 1
    facts.clock_ms, facts.registered = late_ms, {each.lock.hash: each.lock.expiry_ms}
    checker.on_ledger(None, replace(group.ledger, locks=(paid,)))
    facts.registered = {each.lock.hash: late_ms}
    with expect(checker, f"due to {each.lock.payer}"):
        checker.on_ledger(None, replace(group.ledger, locks=(paid,)))


def test_payees_finds_a_claim_in_time_that_is_not_paid(facts: Facts) -> None:
    group, member, lock, _ = next(item for item in ended(facts) if not item[3])
    checker = LockPayees(facts, 1_000)
    facts.clock_ms = lock.expiry_ms - 999
    checker.claiming(member.wallet, group.ledger.group_id, lock)
    checker.finish()
    facts.clock_ms = lock.expiry_ms - 1_000
    checker.claiming(member.wallet, group.ledger.group_id, lock)
    with expect(checker, "went back to its payer"):
        checker.finish()
    never = LockPayees(facts, 1_000)
    never.claiming(member.wallet, group.ledger.group_id, replace(lock, id=10_000))
    with expect(never, "never stood"):
        never.finish()


def test_payers_finds_one_who_paid_for_nothing(facts: Facts) -> None:
    with expect(LockPayers(facts), "never told its preimage"):
        LockPayers(facts).finish()
    group, member, lock, _ = next(item for item in ended(facts) if item[3])
    with expect(LockPayers(facts), "that is none"):
        LockPayers(facts).shown(member.wallet, group.ledger.group_id, lock, bytes(32))


def test_ends_finds_who_was_told_wrongly_and_what_never_ends(facts: Facts) -> None:
    for group, member, lock, is_paid in ended(facts):
        checker, how = LockEnds(facts), ("claimed", "released")
        checker.ended(member.wallet, group.ledger.group_id, Ended(lock, how[not is_paid]))
        checker.finish()
        with expect(checker, "is told two ends"):
            checker.ended(member.wallet, group.ledger.group_id, Ended(lock, how[is_paid]))
        wrong = LockEnds(facts)
        wrong.ended(member.wallet, group.ledger.group_id, Ended(lock, how[is_paid]))
        with expect(wrong, "and its pay"):
            wrong.finish()
    group, each = closed_locks(facts)[0]
    settled = group.ledger
    group.ledger = replace(settled, locks=(replace(each, paid_to=None),))
    try:
        with expect(LockEnds(facts), "pend for ever"):
            LockEnds(facts).finish()
    finally:
        group.ledger = settled


def test_signatures_finds_what_nobody_should_have_signed(facts: Facts) -> None:
    story = network()
    offers, claims = LockSignatures(facts, 0), 0
    with expect(offers, "its user never made"):
        for member in story.members:
            offers.synced(member.index, [each for each in member.home.records() if isinstance(each, Signed)])
    offers.__dict__["_offered"] = _Everything()
    facts.registered, facts.clock_ms = {}, 10**9
    for member in story.members:
        for record in member.home.records():
            if isinstance(record, Signed):
                try:
                    offers.synced(member.index, [record])
                except GroupViolation as found:
                    claims += "is claimed" in str(found)
    assert claims > 0
    facts.clock_ms = 0
    for member in story.members:
        offers.synced(member.index, [each for each in member.home.records() if isinstance(each, Signed)])


class _Everything(set[object]):
    def __contains__(self, item: object) -> bool:
        return True


def test_signatures_knows_when_an_expiry_may_be_signed(facts: Facts) -> None:
    checker = LockSignatures(facts, 0)
    lock, member = Lock(1, 0, 1, 5, bytes(32), 1_000), Member(7, 1)
    facts.registered, facts.clock_ms = {}, 1_001
    checker._check_expire(member, lock)
    facts.registered = {lock.hash: 1_001}
    checker._check_expire(member, lock)
    facts.registered = {lock.hash: 1_000}
    with expect(checker, "registered at 1000, in time"):
        checker._check_expire(member, lock)
    facts.registered, facts.clock_ms = {}, 1_000
    with expect(checker, "before its expiry"):
        checker._check_expire(member, lock)


def test_books_finds_a_lock_that_is_lost(facts: Facts) -> None:
    group, _ = closed_locks(facts)[0]
    checker = Books(facts, {}, 0)
    checker._earned = dict.fromkeys(range(8), 0)
    checker.on_ledger(None, group.ledger)
    with expect(checker, "other locks than were offered"):
        checker.on_ledger(None, replace(group.ledger, locks=group.ledger.locks[1:]))


def test_an_outcome_is_where_the_money_is(facts: Facts) -> None:
    for group, member, lock, is_paid in ended(facts):
        assert outcome(group, member, lock.id) == (lock, is_paid)
    for group, each in closed_locks(facts):
        assert outcome(group, group.honest[0], each.lock.id) == (each.lock, each.paid_to == each.lock.payee)
    group = next(iter(facts.groups.values()))
    assert outcome(group, group.honest[0], 10_000) is None
