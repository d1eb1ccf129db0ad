"""Parts of a payment: all are taken, or none (decision 042), in whatever order they come, and over restarts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace

from layer1.errors import Refused
from tests.wallet.invoices.samples import PLAIN, PREIMAGE, signed
from wallet.invoices import gathering, receiving
from wallet.invoices.gathering import CLAIM_MARGINS, MAX_PARTS, PATIENCE_MS, Gathering, Waiting
from wallet.invoices.receiving import Circle, Turned, Waits, receive, receive_circle, receive_gift
from wallet.invoices.records import Gift, Incoming, Issued, Stage
from wallet.onion.failure import Code
from wallet.onion.payload import Final, Spontaneous

ASKED = 12_345
M = 1_000
NOW_MS = PLAIN.created_ms + 1_000
HASH = PLAIN.payment_hash
OPEN = Issued(signed(), False, PREIMAGE)
HOLD = Issued(signed(), True, PREIMAGE)


def lock(number: int, amount: int, good_ms: int = 100_000) -> Incoming:
    return Incoming(bytes(32), number, amount, NOW_MS + good_ms, bytes(32))


def final(amount: int, total: int = ASKED) -> Final:
    return Final(amount, total, PLAIN.payment_secret)


def come(waiting: Waiting, part: Incoming, total: int = ASKED, clock_ms: int = NOW_MS, issued: Issued = OPEN) -> Any:
    return receive(issued, final(part.amount, total), part, clock_ms, waiting=waiting, margin_ms=M)


def waits(*parts: Incoming, total: int = ASKED) -> Waiting:
    waiting: Waiting = ()
    for part in parts:
        answer = come(waiting, part, total)
        assert isinstance(answer, Waits)
        waiting = answer.waiting
    return waiting


def test_all_parts_are_taken_when_the_last_has_come() -> None:
    first, second, last = lock(1, 5_000), lock(2, 5_000), lock(3, 2_345)
    waiting = waits(first, second)
    assert waiting == (Gathering(ASKED, NOW_MS, (first, second)),)
    taken = come(waiting, last)
    assert taken == replace(OPEN, stage=Stage.CLAIMING, parts=(first, second, last), total=ASKED)
    assert come(waiting, last, issued=HOLD).stage is Stage.HELD


def test_news_that_come_twice_count_once() -> None:
    waiting = waits(lock(1, 6_000))
    assert come(waiting, lock(1, 6_000)) == Waits(waiting)
    last = come(waiting, lock(2, 6_344))
    assert isinstance(last, Waits), "one unit is missing"


def test_parts_that_name_another_total_are_another_payment() -> None:
    """Who has the invoice, and sends a unit with another total, keeps nobody's payment from being completed."""
    waiting = waits(lock(1, 1), total=2 * ASKED)
    waiting = come(waiting, lock(2, 6_000)).waiting
    assert [each.total for each in waiting] == [2 * ASKED, ASKED]
    taken = come(waiting, lock(3, 6_345))
    assert [part.lock for part in taken.parts] == [2, 3]


def test_a_lock_that_is_enough_by_itself_takes_no_others_money() -> None:
    """Two payers of one invoice: the second one pays it whole, the first one's part goes back."""
    taken = come(waits(lock(1, 12_000)), lock(2, ASKED))
    assert (taken.parts, taken.total) == ((lock(2, ASKED),), ASKED)


def test_never_more_than_twice_what_was_asked() -> None:
    waiting = waits(lock(1, ASKED), lock(2, ASKED - 1), total=2 * ASKED)
    answer = come(waiting, lock(3, 2), total=2 * ASKED)
    assert isinstance(answer, Turned)
    assert answer.code is Code.UNKNOWN_PAYMENT
    assert isinstance(come(waiting, lock(3, 1), total=2 * ASKED), Issued)


def test_a_payment_has_a_margin_and_a_minute_and_then_goes_back_whole() -> None:
    waiting = waits(lock(1, 5_000, 300_000), lock(2, 5_000, 300_000))
    until_ms = NOW_MS + M + PATIENCE_MS
    assert gathering.sweep(waiting, until_ms, M) == (waiting, ())
    assert gathering.sweep(waiting, until_ms + 1, M) == ((), (lock(1, 5_000, 300_000), lock(2, 5_000, 300_000)))
    late = come(waiting, lock(3, 2_345, 300_000), clock_ms=until_ms + 1)
    assert isinstance(late, Waits), "it is not completed any more"
    assert isinstance(come(waiting, lock(3, 2_345, 300_000), clock_ms=until_ms), Issued)


def test_the_part_that_expires_first_rules() -> None:
    short = lock(1, 5_000, 60_000 + M)
    waiting = waits(short)
    until_ms = short.expiry_ms - CLAIM_MARGINS * M
    assert gathering.sweep(waiting, until_ms, M)[1] == ()
    assert gathering.sweep(waiting, until_ms + 1, M)[1] == (short,)
    last = lock(2, ASKED - 5_000, 300_000)
    assert isinstance(come(waiting, last, clock_ms=until_ms), Issued)
    assert isinstance(come(waiting, last, clock_ms=until_ms + 1), Waits)


def test_who_began_before_the_invoice_expired_may_complete_it() -> None:
    last_ms = PLAIN.expires_ms
    first = replace(lock(1, 5_000), expiry_ms=last_ms + 100_000)
    waiting = come((), first, clock_ms=last_ms).waiting
    part = replace(lock(2, ASKED - 5_000), expiry_ms=last_ms + 100_000)
    assert isinstance(come(waiting, part, clock_ms=last_ms + 1), Issued)
    assert isinstance(come((), part, clock_ms=last_ms + 1), Turned)


def test_so_many_parts_wait_and_one_that_completes_is_always_taken() -> None:
    waiting = waits(*(lock(number, 1) for number in range(MAX_PARTS)))
    answer = come(waiting, lock(99, 1))
    assert isinstance(answer, Turned)
    assert answer.code is Code.BUSY
    assert len(come(waiting, lock(99, ASKED - MAX_PARTS)).parts) == MAX_PARTS + 1
    assert come(waiting, lock(99, ASKED)).parts == (lock(99, ASKED),)


def test_what_is_held_is_no_payment_any_more_without_one_of_its_parts() -> None:
    first, second = lock(1, 6_000), lock(2, 6_345)
    held = replace(HOLD, stage=Stage.HELD, parts=(first, second), total=ASKED)
    assert receiving.lapsed(held, first) == HOLD
    with pytest.raises(Refused, match="the invoice is open"):
        receiving.settle(receiving.lapsed(held, first))


def test_it_is_paid_when_every_part_is_in_and_missed_when_one_was_lost() -> None:
    first, second = lock(1, 6_000), lock(2, 6_345)
    claiming = replace(OPEN, stage=Stage.CLAIMING, parts=(first, second), total=ASKED)
    one = receiving.claimed(claiming, first)
    assert (one.stage, one.received) == (Stage.CLAIMING, 6_000)
    both = receiving.claimed(one, second)
    assert (both.stage, both.received) == (Stage.PAID, ASKED)
    lost = receiving.lapsed(one, second)
    assert (lost.stage, lost.received) == (Stage.MISSED, 6_000)
    early = receiving.claimed(receiving.lapsed(claiming, second), first)
    assert (early.stage, early.received) == (Stage.MISSED, 6_000)


# ------------------------------------------------------------------------------------------------- without an invoice


def given(part: Incoming, gift: Gift | None = None, waiting: Waiting = (), **told: Any) -> Any:
    plain = Spontaneous(part.amount, part.amount, PREIMAGE)
    payload = replace(plain, **told)
    return receive_gift(gift, payload, HASH, part, NOW_MS, waiting=waiting, margin_ms=M)


def test_a_payment_without_an_invoice_is_taken_with_the_preimage_that_came_along() -> None:
    taken = given(lock(1, 77))
    assert taken == Gift(HASH, PREIMAGE, Stage.CLAIMING, (lock(1, 77),), 77)
    assert given(lock(1, 77), taken) == taken, "news come twice"
    paid = receiving.claimed(taken, lock(1, 77))
    assert (paid.stage, paid.received) == (Stage.PAID, 77)


def test_its_parts_are_collected_like_others() -> None:
    first = given(lock(1, 30), total=77)
    assert isinstance(first, Waits)
    taken = given(lock(2, 47), waiting=first.waiting, total=77)
    assert [part.amount for part in taken.parts] == [30, 47]


@pytest.mark.parametrize(
    ("part", "gift", "told", "code"),
    [
        (lock(1, 77), None, {"preimage": bytes(32)}, Code.UNKNOWN_SPONTANEOUS),
        (lock(1, 77), None, {"amount": 78, "total": 78}, Code.UNKNOWN_SPONTANEOUS),
        (lock(1, 77), None, {"amount": 20, "total": 38}, Code.UNKNOWN_SPONTANEOUS),
        (lock(2, 77), Gift(HASH, PREIMAGE, Stage.PAID, (), 77, 77), {}, Code.UNKNOWN_SPONTANEOUS),
        (lock(2, 77), Gift(HASH, PREIMAGE, Stage.CLAIMING, (lock(1, 77),), 77), {}, Code.UNKNOWN_SPONTANEOUS),
        (lock(1, 77, CLAIM_MARGINS * M - 1), None, {}, Code.EXPIRES_TOO_SOON),
    ],
)
def test_what_is_no_payment_goes_back(part: Incoming, gift: Gift | None, told: dict[str, Any], code: Code) -> None:
    answer = given(part, gift, **told)
    assert isinstance(answer, Turned)
    assert answer.code is code


def test_a_circle_of_ours_is_taken_and_no_hop_gets_its_preimage_for_a_unit() -> None:
    circle = Circle(PLAIN.payment_secret, 500, PREIMAGE, lock(1, 500).group_id)

    def around(amount: int, channel: bytes = circle.channel, **told: Any) -> Any:
        payload, part = replace(final(amount, amount), **told), replace(lock(1, amount), group_id=channel)
        return receive_circle(circle, None, payload, part, NOW_MS, margin_ms=M)

    taken = around(500)
    assert (taken.ours, taken.stage, taken.preimage) == (True, Stage.CLAIMING, PREIMAGE)
    for cheat in (around(1), around(499), around(500, payment_secret=bytes(16)), around(500, b"x" * 32)):
        assert isinstance(cheat, Turned)
        assert cheat.code is Code.UNKNOWN_PAYMENT
    assert isinstance(around(1, total=500), Waits)


# ------------------------------------------------------------------------------------- in any order, with crashes


@dataclass
class Standing:
    """A lock as the channel has it."""

    part: Incoming
    total: int
    payer: int
    leaving: bool = False


@dataclass
class Wire:
    """What really happened, whatever the payee remembers."""

    standing: dict[int, Standing] = field(default_factory=dict)
    claimed: dict[int, Standing] = field(default_factory=dict)
    shown: bool = False
    """Whether the preimage has left."""


class Payments(RuleBasedStateMachine):
    """Payers, a clock, a hold invoice or not, restarts between any two steps; what is durable is the record alone."""

    @initialize(hold=st.booleans())
    def begin(self, hold: bool) -> None:
        self.record = HOLD if hold else OPEN
        self.waiting: Waiting = ()
        self.clock_ms, self.number, self.wire = NOW_MS, 0, Wire()

    def take(self, standing: Standing) -> None:
        """As `wallet.invoices.collecting` does."""
        if standing.leaving:
            return
        self.sweep()
        part = standing.part
        answer = receive(
            self.record, final(part.amount, standing.total), part, self.clock_ms, waiting=self.waiting, margin_ms=M
        )
        match answer:
            case Turned():
                standing.leaving = True
            case Waits():
                self.waiting = answer.waiting
            case Issued() if answer == self.record:
                pass  # known before
            case Issued():
                assert sum(each.amount for each in answer.parts) >= max(ASKED, answer.total)
                assert {self.wire.standing[each.lock].total for each in answer.parts} == {answer.total}
                assert all(not self.wire.standing[each.lock].leaving for each in answer.parts)
                self.record = answer
                taken = {each.lock for each in answer.parts}
                for each in gathering.parts_of(self.waiting):
                    self.wire.standing[each.lock].leaving |= each.lock not in taken
                self.waiting = ()

    def sweep(self) -> None:
        self.waiting, overdue = gathering.sweep(self.waiting, self.clock_ms, M)
        for part in overdue:
            self.wire.standing[part.lock].leaving = True

    @rule(
        share=st.integers(1, 4), times=st.sampled_from([1, 1, 1, 2, 3]), payer=st.integers(0, 1), good=st.integers(1, 5)
    )
    def pay(self, share: int, times: int, payer: int, good: int) -> None:
        total, amount = ASKED * times, -(-ASKED * times * share // 4)
        self.number += 1
        part = replace(lock(self.number, amount), expiry_ms=self.clock_ms + good * 50_000)
        self.wire.standing[self.number] = Standing(part, total, payer)
        self.take(self.wire.standing[self.number])

    @precondition(lambda self: self.wire.standing)
    @rule(data=st.data())
    def hear_again(self, data: st.DataObject) -> None:
        self.take(self.wire.standing[data.draw(st.sampled_from(sorted(self.wire.standing)))])

    @rule(later_ms=st.sampled_from([1, 10_000, PATIENCE_MS, 200_000]))
    def wait(self, later_ms: int) -> None:
        self.clock_ms += later_ms
        self.sweep()
        if self.record.stage is Stage.HELD:
            until_ms = min(gathering.latest_ms(part, M) for part in self.record.parts)
            for part in self.record.parts if self.clock_ms > until_ms else ():
                self.wire.standing[part.lock].leaving = True

    @precondition(lambda self: self.record.stage is Stage.CLAIMING)
    @rule(data=st.data())
    def claim_one(self, data: st.DataObject) -> None:
        part = data.draw(st.sampled_from(self.record.parts))
        self.wire.shown = True
        self.wire.claimed[part.lock] = self.wire.standing.pop(part.lock)
        self.record = receiving.claimed(self.record, part)

    @precondition(lambda self: any(each.leaving for each in self.wire.standing.values()))
    @rule(data=st.data())
    def let_go(self, data: st.DataObject) -> None:
        leaving = sorted(number for number, each in self.wire.standing.items() if each.leaving)
        self.lose(data.draw(st.sampled_from(leaving)))

    def lose(self, number: int) -> None:
        gone = self.wire.standing.pop(number)
        self.waiting = gathering.without(self.waiting, gone.part.name)
        if receiving.known(self.record, gone.part):
            before, self.record = self.record, receiving.lapsed(self.record, gone.part)
            for part in before.parts if before.stage is Stage.HELD else ():
                if part.lock in self.wire.standing:
                    self.wire.standing[part.lock].leaving = True

    @precondition(lambda self: self.record.stage is Stage.HELD)
    @rule()
    def settle(self) -> None:
        if all(self.clock_ms <= gathering.latest_ms(part, M) for part in self.record.parts):
            self.record = receiving.settle(self.record)

    @rule()
    def cancel(self) -> None:
        try:
            self.record = receiving.cancel(self.record)
        except Refused:
            return
        for part in (*gathering.parts_of(self.waiting), *self.record.parts):
            self.wire.standing[part.lock].leaving = True
        self.waiting = ()

    @rule()
    def crash(self) -> None:
        """The record is what is left. What was leaving has left or stays, once the channels are in step."""
        for number in [number for number, each in self.wire.standing.items() if each.leaving and number % 2]:
            self.lose(number)
        self.waiting = ()
        for each in self.wire.standing.values():
            each.leaving = False
        for number in sorted(self.wire.standing):
            if self.record.stage is Stage.CANCELLED and receiving.known(self.record, self.wire.standing[number].part):
                self.wire.standing[number].leaving = True
            else:
                self.take(self.wire.standing[number])
        self.wait(0)

    @invariant()
    def all_or_nothing(self) -> None:
        """What was claimed, and what is being claimed, are one whole payment of one total."""
        if not hasattr(self, "wire"):
            return
        taken = [*self.wire.claimed.values()]
        if self.record.stage is Stage.CLAIMING:
            taken += [self.wire.standing[part.lock] for part in self.record.parts]
            assert not any(each.leaving for each in taken)
        if taken:
            units = sum(each.part.amount for each in taken)
            assert {each.total for each in taken} == {self.record.total}
            assert max(ASKED, self.record.total) <= units <= 2 * ASKED

    @invariant()
    def nothing_waits_for_ever(self) -> None:
        """A lock that stands is a part of what is taken, waits for others in time, or is on its way back."""
        if not hasattr(self, "wire"):
            return
        waiting = {part.lock for part in gathering.parts_of(self.waiting)}
        taken = {part.lock for part in self.record.parts}
        for number, each in self.wire.standing.items():
            assert each.leaving or number in waiting | taken
        assert len(waiting) <= MAX_PARTS


def explore(examples: int = 100, *, shrink: bool = True) -> None:
    phases = [Phase.generate, Phase.shrink] if shrink else [Phase.generate]
    run_state_machine_as_test(
        Payments,
        settings=settings(
            max_examples=examples, stateful_step_count=25, deadline=None, derandomize=True, phases=phases,
            report_multiple_bugs=False, suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip


@pytest.mark.slow
def test_whatever_comes_in_whatever_order_all_of_a_payment_is_claimed_or_nothing() -> None:
    explore()
