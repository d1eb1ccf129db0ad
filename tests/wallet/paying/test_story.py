"""The payer in stories of locks that end in any order, offers of unknown fate and crashes; and broken payers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from layer1.errors import Refused
from layer2.driver import Pending
from tests.wallet.paying.story import PAYMENT, Story, Street
from wallet.paying import core, verdicts
from wallet.paying.payer import Payer
from wallet.paying.records import Fate

SEEDS = range(60)
Patch = pytest.MonkeyPatch


def tell(seed: int) -> Fate:
    """One story; how the payment ended."""
    story = Story(seed)
    record = asyncio.run(story.run())
    paid = sum(each.amount for each in record.attempts if each.fate is Fate.PAID)
    assert paid == sum(lock.amount for lock in story.street.claimed.values()), "each unit that left is in the record"
    fees = sum(each.fee for each in record.attempts if each.fate is Fate.PAID)
    assert sum(story.history.values()) == fees, "each fee is noted, once"
    return record.fate if record.attempts else Fate.FAILED


def test_whatever_happens_no_more_is_paid_than_amount_and_fee_and_every_payment_ends() -> None:
    """ "Never two live attempts that together could pay more than the total, whatever order of events, crash at every
    step"."""
    ends = [tell(seed) for seed in SEEDS]
    assert ends.count(Fate.PAID) > 5 and ends.count(Fate.FAILED) > 5, "both are told"


# ---------------------------------------------------------------------------------------------------- broken payers


def retries_while_a_part_is_undecided(patch: Patch) -> None:
    def missing(payment: Any) -> int:
        return int(payment.amount - sum(each.received for each in payment.attempts if each.fate is Fate.PAID))

    patch.setattr(core, "missing", missing)


def ignores_the_fee_limit(patch: Patch) -> None:
    patch.setattr(core, "fee_left", lambda _: 10**6)


def believes_the_desk(patch: Patch) -> None:
    """Enters whatever was found."""

    def with_attempts(payment: Any, attempts: Any) -> Any:
        return structs.replace(payment, attempts=(*payment.attempts, *attempts))

    patch.setattr(core, "with_attempts", with_attempts)


def takes_an_unknown_fate_for_a_refusal(patch: Patch) -> None:
    original = Street.begin

    async def begin(self: Street, *offer: Any) -> Any:
        try:
            return await original(self, *offer)
        except Pending as pending:
            raise Refused("link_closed", str(pending)) from None

    patch.setattr(Street, "begin", begin)


def begins_afresh_after_a_restart(patch: Patch) -> None:
    original = Payer.known

    def known(self: Payer, wanted: Any) -> Any:
        found = original(self, wanted)
        waiting = found is not None and found.fate is Fate.PENDING and not self.is_trying(wanted.payment_hash)
        return None if waiting else found

    patch.setattr(Payer, "known", known)
    patch.setattr(core, "begun_again", lambda before, now: now)


def forgets_what_was_under_way(patch: Patch) -> None:
    def start(self: Payer) -> None:
        self._open = {}

    patch.setattr(Payer, "start", start)


def offers_before_it_is_durable(patch: Patch) -> None:
    original = Payer._put

    def put(self: Payer, payment: Any, *, synced: bool) -> None:
        original(self, payment, synced=False)

    patch.setattr(Payer, "_put", put)


def goes_on_after_the_preimage(patch: Patch) -> None:
    """Pays the missing part to who has given the receipt away, and another after that."""
    original = core.next_step

    def next_step(payment: Any, course: Any, clock_ms: int) -> Any:
        bare = [each for each in payment.attempts if each.fate is Fate.PENDING]
        return original(structs.replace(payment, preimage=b"", attempts=tuple(bare)), course, clock_ms)

    patch.setattr(core, "next_step", next_step)
    patch.setattr(core, "missing", lambda payment: PAYMENT.amount)
    patch.setattr(core, "fee_left", lambda payment: PAYMENT.max_fee)


def gives_up_on_a_first_look(patch: Patch) -> None:
    """What is being told just now is taken for never offered."""
    patch.setattr(Payer, "_is_on_its_way", lambda self, attempt: False)


def counts_a_claim_as_a_failure(patch: Patch) -> None:
    def succeed(self: Payer, payment: Any, attempt: Any, ended: Any) -> None:
        self._fail(payment.payment_hash, attempt, verdicts.never_offered())

    patch.setattr(Payer, "_succeed", succeed)
    patch.setattr(Payer, "shown", lambda *_: None)


def looks_for_what_it_has_yet_to_offer(patch: Patch) -> None:
    """Found by these stories: a standby that is slow, and what waits for it was taken for never offered."""
    original = Payer._look

    def look(self: Payer, payment: Any, attempt: Any) -> None:
        self._offering.clear()
        original(self, payment, attempt)

    patch.setattr(Payer, "_look", look)


def gives_two_locks_the_same_terms(patch: Patch) -> None:
    """Found by these stories: of two offers of unknown fate, the end of one was taken for that of the other."""
    patch.setattr(core, "own_expiry", lambda payment, beside, first, expiry_ms: expiry_ms)


MUTANTS: list[Callable[[Patch], None]] = [
    retries_while_a_part_is_undecided,
    ignores_the_fee_limit,
    believes_the_desk,
    takes_an_unknown_fate_for_a_refusal,
    begins_afresh_after_a_restart,
    forgets_what_was_under_way,
    offers_before_it_is_durable,
    goes_on_after_the_preimage,
    gives_up_on_a_first_look,
    counts_a_claim_as_a_failure,
    looks_for_what_it_has_yet_to_offer,
    gives_two_locks_the_same_terms,
]


def tell_all() -> None:
    for seed in SEEDS:
        tell(seed)


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_broken_payer_is_found(mutate: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutate(monkeypatch)
    with pytest.raises((AssertionError, KeyError)):
        tell_all()
