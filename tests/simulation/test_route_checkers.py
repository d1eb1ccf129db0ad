"""Every checker of payments over routes takes what a network did, and fails on what it is there to find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace as changed
from functools import cache

import pytest
from msgspec.structs import replace

from layer1.ledger.agreements import Lock
from layer1.ledger.records import ClosedLock
from tests.simulation.checkers.groups.base import GroupViolation
from tests.simulation.checkers.groups.facts import Facts, GroupFacts
from tests.simulation.checkers.locks.signatures import LockSignatures
from tests.simulation.checkers.routes.both_ends import BothEnds
from tests.simulation.checkers.routes.flows import ended_locks, flows
from tests.simulation.checkers.routes.no_loss import NoLoss
from tests.simulation.networks.network import Network
from tests.simulation.networks.options import drawn
from tests.simulation.networks.plots import PLOTS
from tests.simulation.networks.town import Payment

SEED = sorted(PLOTS).index("hub dies")
EVERYBODY = frozenset(range(8))


@cache
def network() -> Network:
    story = Network(drawn(SEED, PLOTS))
    assert not story.run().error
    return story


@pytest.fixture
def story() -> Iterator[Network]:
    found = network()
    ledgers = {name: group.ledger for name, group in found.facts.groups.items()}
    payments = {hashed: list(attempts) for hashed, attempts in found.town.payments.items()}
    yield found
    found.town.payments = payments
    for name, group in found.facts.groups.items():
        group.ledger = ledgers[name]


def forwarded(story: Network) -> Payment:
    """One that was paid, once, over a hub."""
    flowed = flows(story.facts)
    for hashed, attempts in story.town.payments.items():
        (path,) = {each.path for each in attempts} if len(attempts) == 1 else {()}
        if len(path) > 2 and (path[-1], hashed) in flowed and attempts[0].amount > 100:
            return attempts[0]
    raise AssertionError("nothing was forwarded")


def pay_again(facts: Facts, wanted: Callable[[GroupFacts, Lock], bool]) -> None:
    """As if there were a second lock like this one, which layer 1 paid to its payee."""
    for group in facts.groups.values():
        for lock, is_paid in ended_locks(group):
            if is_paid and wanted(group, lock):
                again = ClosedLock(replace(lock, id=10_000), lock.expiry_ms, lock.payee)
                group.ledger = replace(group.ledger, locks=(*group.ledger.locks, again))
                return
    raise AssertionError("there is no such lock")


def between(story: Network, payer: int, payee: int, hashed: bytes) -> Callable[[GroupFacts, Lock], bool]:
    def is_it(group: GroupFacts, lock: Lock) -> bool:
        wallets = [story.facts.owner(member.funding) for member in group.ledger.agreement.members]
        return (wallets[lock.payer], wallets[lock.payee], lock.hash) == (payer, payee, hashed)

    return is_it


def test_they_take_what_was_honest(story: Network) -> None:
    NoLoss(story.facts, story.town, EVERYBODY).finish()
    BothEnds(story.facts, story.town, EVERYBODY).finish()
    payment = forwarded(story)
    hub = flows(story.facts)[payment.path[1], payment.hash]
    assert (hub.came, hub.came - hub.went) == (
        payment.sent,
        payment.sent - payment.amount - 3 * (len(payment.path) - 3),
    )


def test_no_loss_finds_a_hub_that_paid_twice(story: Network) -> None:
    payment = forwarded(story)
    hub, after = payment.path[1:3]
    pay_again(story.facts, between(story, hub, after, payment.hash))
    with pytest.raises(GroupViolation, match=f"NoLoss: wallet {hub} forwards .* at a loss: .* by 1 locks, .* by 2,"):
        NoLoss(story.facts, story.town, EVERYBODY).finish()
    careless = NoLoss(story.facts, story.town, EVERYBODY - {hub})
    careless.finish()
    assert careless.lost[hub] > 0


def test_both_ends_finds_a_payment_that_is_credited_twice(story: Network) -> None:
    payment = forwarded(story)
    last, payee = payment.path[-2:]
    pay_again(story.facts, between(story, last, payee, payment.hash))
    with pytest.raises(GroupViolation, match=r"BothEnds: .* is paid 1 times, and credited 2 times"):
        BothEnds(story.facts, story.town, EVERYBODY).finish()
    with pytest.raises(GroupViolation, match=r"BothEnds: .* was made 1 times, and is credited 2 times"):
        BothEnds(story.facts, story.town, EVERYBODY - {last}).finish()


def test_both_ends_finds_one_that_is_paid_twice(story: Network) -> None:
    payment = forwarded(story)
    pay_again(story.facts, between(story, payment.path[0], payment.path[1], payment.hash))
    with pytest.raises(GroupViolation, match=r"BothEnds: .* was made 1 times, and is paid 2 times"):
        BothEnds(story.facts, story.town, EVERYBODY).finish()


def test_both_ends_finds_one_that_brings_something_else(story: Network) -> None:
    payment = forwarded(story)
    story.town.payments[payment.hash] = [changed(payment, amount=payment.amount + 1)]
    with pytest.raises(GroupViolation, match=f"BothEnds: .* of {payment.amount + 1} units brings {payment.amount}"):
        BothEnds(story.facts, story.town, EVERYBODY).finish()
    story.town.payments[payment.hash] = [changed(payment, amount=payment.amount - 1)]
    with pytest.raises(GroupViolation, match=f"BothEnds: .* costs {payment.sent} units, and {payment.sent - 1} were"):
        BothEnds(story.facts, story.town, EVERYBODY).finish()


def test_signatures_finds_what_is_forwarded_for_too_little(story: Network) -> None:
    """Rule 23: "forward only after the incoming lock is committed", and never at a loss."""
    for fee, is_found in ((3, False), (4, True)):
        checker = LockSignatures(story.facts, 0, fee)
        for hashed, attempts in story.town.payments.items():
            payer = attempts[0].path[0]
            for group_id, _ in story.town.neighbours(payer):
                checker.offering(payer, group_id, attempts[0].sent, hashed)
        found = ""
        try:
            story.facts.clock_ms, clock_ms = 0, story.facts.clock_ms
            for member in story.members:
                checker.synced(member.index, list(member.home.records()))
        except GroupViolation as violation:
            found = str(violation)
        finally:
            story.facts.clock_ms = clock_ms
        assert ("no lock for it came in" in found) is is_found
