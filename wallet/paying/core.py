"""What a payment needs next: a lock more, a wait, or nothing any more. Pure functions, no I/O.

*Safety:* what is paid or may be, together, is never more than the amount and the largest fee, whatever happens in which
order. What may be paid is never offered again.

- A lock counts as gone only if that is certain; one of which nobody knows counts like one that stands.
- What is missing is the amount less the payee's parts of all locks that count; no new lock brings more. So two locks
  that may both be taken never pay a part twice.
- A fee is taken out of the one limit of all parts.
- Once the preimage was seen the payment is made, and nothing is added, though parts of it may be missing: who shows the
  preimage has given the receipt away.

Trying ends when the payee wants none of it, when time or tries are used up, or when there is no other way; the payment
fails when besides every lock is gone.

Source: docs/design/groups.md, rules 5 and 23; decision 042.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from msgspec import structs

from layer1.errors import Refused
from wallet.paying.records import Attempt, Fate, Payment, Step
from wallet.routing.paths import Direction

MAX_PARTS = 16
MAX_TRIES = 50
"""Locks that one call offers in all. Each costs hops on its path work for nothing if it fails."""
TRY_MS = 60_000
"""Ledger clock: a part that fails later is not tried again."""
KEPT_ATTEMPTS = 100
"""Of earlier calls, which failed: as many are remembered."""
ENOUGH = 3
"""Refusals for want of money after which a hop is left alone: before, a smaller part may pass."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long and how often to try."""

    until_ms: int
    """Ledger clock."""
    parts: int = MAX_PARTS
    """That may be under way at a time."""
    tries: int = MAX_TRIES


@dataclass(frozen=True, slots=True)
class Stop:
    """Why nothing more is tried."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Course:
    """What is remembered while a payment is being tried; it ends with the process."""

    limits: Limits
    tried: int = 0
    refusals: Mapping[Direction, int] = field(default_factory=dict)
    """How often a hop did not forward; from :data:`ENOUGH` on it is avoided."""
    stop: Stop | None = None

    @property
    def avoid(self) -> frozenset[Direction]:
        """For the next search."""
        return frozenset(way for way, count in self.refusals.items() if count >= ENOUGH)

    def refused(self, ways: Mapping[Direction, int]) -> Course:
        """The same after a hop, or one of several, did not forward; each with the weight of it."""
        counts = dict(self.refusals)
        for way, weight in ways.items():
            counts[way] = counts.get(way, 0) + weight
        return replace(self, refusals=counts)

    def counting(self, tries: int) -> Course:
        """The same after so many more locks were offered."""
        return replace(self, tried=self.tried + tries)

    def stopped(self, code: str, message: str) -> Course:
        """The same, with nothing more to try; the first reason stands."""
        return replace(self, stop=self.stop or Stop(code, message))


@dataclass(frozen=True, slots=True)
class Find:
    """Locks are needed."""

    amount: int
    """What the payee still has to get, minor units."""
    max_fee: int
    parts: int
    avoid: frozenset[Direction]
    in_flight: Mapping[Direction, int]
    """Minor units that parts under way take of others' channels."""


@dataclass(frozen=True, slots=True)
class Wait:
    """Locks stand whose fate nobody knows yet, and nothing is to be added."""


@dataclass(frozen=True, slots=True)
class Over:
    """The payment is made, or it has failed for certain."""


Next: TypeAlias = Find | Wait | Over | Stop


def missing(payment: Payment) -> int:
    """What the payee would still not get if all live parts arrived, minor units."""
    return payment.amount - sum(each.received for each in payment.live)


def fee_left(payment: Payment) -> int:
    """What may still be paid to forwarders, minor units."""
    return payment.max_fee - payment.fee


def next_step(payment: Payment, course: Course, clock_ms: int) -> Next:
    """What to do now; a `Stop` is to be put into the course, and asked again."""
    if payment.fate is Fate.PAID:
        return Over()
    live, amount = len(payment.live), missing(payment)
    if course.stop is not None or amount <= 0:
        return Wait() if live else Over()
    if course.tried and clock_ms > course.limits.until_ms:
        return Stop("time_over", f"there is no time left to try again, after {course.tried} tries")
    if course.tried >= course.limits.tries:
        return Stop("too_many_tries", f"{course.tried} locks were tried, which is the most")
    room = min(course.limits.parts - live, course.limits.tries - course.tried)
    if room <= 0:
        return Wait()
    return Find(amount, fee_left(payment), room, course.avoid, in_flight(payment))


def in_flight(payment: Payment) -> dict[Direction, int]:
    """What parts under way take of others' channels: our own know by themselves."""
    taken: dict[Direction, int] = {}
    for attempt in payment.live:
        for before, step in zip(attempt.path, attempt.path[1:], strict=False):
            way = step.channel, before.node
            taken[way] = taken.get(way, 0) + step.amount
    return taken


def with_attempts(payment: Payment, attempts: Sequence[Attempt]) -> Payment:
    """The payment with locks that are to be offered: durable before they are.

    Raises:
        Refused: ``bad_route``. They are none of its, or bring more than is missing, or cost more than they may.
    """
    if payment.fate is Fate.PAID:
        raise Refused("bad_route", "the payment is made: nothing is to be added")
    known = {each.mark for each in payment.attempts}
    if any(each.mark in known or each.fate is not Fate.PENDING for each in attempts):
        raise Refused("bad_route", "an attempt is a new one, with a packet of its own")
    wrong = next((each for each in attempts if each.path[-1].node != payment.payee), None)
    if wrong is not None:
        raise Refused("bad_route", f"a route to {wrong.path[-1].node.hex()}, the payee is {payment.payee.hex()}")
    if any(each.received < 1 or each.fee < 0 for each in attempts):
        raise Refused("bad_route", "a part brings the payee something, and costs no less than nothing")
    more, fee = sum(each.received for each in attempts), sum(each.fee for each in attempts)
    if more > missing(payment):
        raise Refused("bad_route", f"routes for {more} units, {missing(payment)} are missing")
    if fee > fee_left(payment):
        raise Refused("bad_route", f"routes for a fee of {fee} units, {fee_left(payment)} may be paid")
    return structs.replace(payment, attempts=(*payment.attempts, *attempts))


def own_expiry(payment: Payment, beside: Sequence[Attempt], first: Step, expiry_ms: int) -> int:
    """An expiry from `expiry_ms` on that no other lock of the payment has in the same channel for the same amount.

    So each of its locks is known by its terms, though we stop before we know its id.
    """
    same = [each for each in (*payment.attempts, *beside) if each.path[0].channel == first.channel]
    taken = {each.expiry_ms for each in same if each.amount == first.amount}
    while expiry_ms in taken:
        expiry_ms += 1
    return expiry_ms


def begun_again(before: Payment, now: Payment) -> Payment:
    """A payment that failed for certain, to be tried on new terms.

    Raises:
        ValueError: It has not failed.
    """
    if before.fate is not Fate.FAILED:
        raise ValueError(f"a payment that is {before.fate} is not tried again")
    return structs.replace(now, attempts=before.attempts[-KEPT_ATTEMPTS:])


def replaced(payment: Payment, mark: bytes, **changes: object) -> Payment:
    """The payment with one attempt changed. What is decided stays decided, but that a preimage makes it paid."""

    def change(each: Attempt) -> Attempt:
        fate = changes.get("fate", Fate.PENDING)
        decided = each.fate is Fate.PAID or (each.fate is Fate.FAILED and fate is not Fate.PAID)
        return each if each.mark != mark or decided else structs.replace(each, **changes)

    return structs.replace(payment, attempts=tuple(map(change, payment.attempts)))
