"""What a payment needs next: never more than is missing, never more fee than is left, whatever comes in which order."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from layer1.errors import Refused
from tests.wallet.paying.samples import HASH, PAYEE, PAYMENT, PREIMAGE, US, attempt, channel, node
from wallet.paying import core
from wallet.paying.core import ENOUGH, Course, Find, Limits, Over, Stop, Wait, next_step
from wallet.paying.fees import most_fee
from wallet.paying.records import Attempt, Fate, Kind, Payment

NOW = 1_000
COURSE = Course(Limits(NOW + 60_000, parts=3, tries=5))
PAID, FAILED = Fate.PAID, Fate.FAILED


def with_parts(*attempts: Attempt) -> Payment:
    return replace(PAYMENT, attempts=attempts)


@pytest.mark.parametrize(
    ("attempts", "expected"),
    [
        ((), Find(1_000, 10, 3, frozenset(), {})),
        ((attempt(1_000),), Wait()),
        ((attempt(400, 3),), Find(600, 7, 2, frozenset(), {})),
        ((attempt(400, 3), attempt(600, 7)), Wait()),
        ((attempt(400, 3, fate=FAILED), attempt(600, 7)), Find(400, 3, 2, frozenset(), {})),
        ((attempt(1_000, fate=FAILED),), Find(1_000, 10, 3, frozenset(), {})),
        ((attempt(100), attempt(100), attempt(100)), Wait()),
        ((attempt(1_000, fate=PAID),), Over()),
        ((attempt(500, fate=PAID), attempt(500, fate=FAILED)), Over()),
    ],
)
def test_what_is_missing_is_looked_for_and_what_may_be_paid_counts_as_paid(
    attempts: tuple[Attempt, ...], expected: core.Next
) -> None:
    """ "Never retried elsewhere until its fate is known" (rule 5)."""
    step = next_step(with_parts(*attempts), COURSE, NOW)
    assert (Find(step.amount, step.max_fee, step.parts, step.avoid, {}) if isinstance(step, Find) else step) == expected


def test_the_preimage_makes_it_paid_though_parts_are_missing() -> None:
    """Who shows it has given the receipt away: nothing is added."""
    paid = replace(with_parts(attempt(400), attempt(600, fate=FAILED)), preimage=PREIMAGE)
    assert next_step(paid, COURSE, NOW) == Over()
    with pytest.raises(Refused, match="is made"):
        core.with_attempts(paid, [attempt(600)])


def test_trying_ends_and_what_stands_is_waited_for() -> None:
    """ "Tried on another path while fee, time and parts last"."""
    failed, stands = attempt(500, fate=FAILED), attempt(500)
    late, used_up = replace_course(tried=1), replace_course(tried=5)
    assert next_step(with_parts(failed), COURSE, NOW + 60_001) == Find(1_000, 10, 3, frozenset(), {}), "the first"
    for course, clock_ms, code in ((late, NOW + 60_001, "time_over"), (used_up, NOW, "too_many_tries")):
        stop = next_step(with_parts(failed, stands), course, clock_ms)
        assert isinstance(stop, Stop) and stop.code == code
        stopped = course.stopped(stop.code, stop.message)
        assert next_step(with_parts(failed, stands), stopped, clock_ms) == Wait()
        assert next_step(with_parts(failed), stopped, clock_ms) == Over()
        assert stopped.stopped("other", "").stop == stop, "the first reason stands"


def replace_course(**changes: object) -> Course:
    return Course(COURSE.limits, **changes)  # type: ignore[arg-type]


def test_a_hop_is_left_alone_when_it_refused_often_enough() -> None:
    way = (channel("hub-payee"), node("hub"))
    once = COURSE.refused({way: 1})
    assert (once.avoid, once.refused({way: ENOUGH - 1}).avoid) == (frozenset(), frozenset({way}))
    assert COURSE.refused({way: ENOUGH}).avoid == {way}


def test_parts_under_way_take_of_others_channels_and_of_ours_nothing() -> None:
    parts = with_parts(attempt(400, 3, "hub"), attempt(100, 1, "hub"), attempt(100, 1, "hub", fate=FAILED))
    assert core.in_flight(parts) == {(channel("hub-payee"), node("hub")): 500}


@pytest.mark.parametrize(
    ("attempts", "why"),
    [
        ([attempt(1_001)], "routes for 1001 units, 600 are missing"),
        ([attempt(300), attempt(301)], "routes for 601 units, 600 are missing"),
        ([attempt(600, 8)], "a fee of 8 units, 7 may be paid"),
        ([attempt(300, 4), attempt(300, 4)], "a fee of 8 units"),
        ([replace(attempt(600), path=attempt(600, 0, "hub").path[:1])], "a route to"),
        ([attempt(600, fate=FAILED)], "new one"),
        ([attempt(600, -1)], "no less than nothing"),
        ([attempt(0)], "brings the payee something"),
    ],
)
def test_routes_that_would_pay_too_much_are_refused_whoever_found_them(attempts: list[Attempt], why: str) -> None:
    with pytest.raises(Refused, match=why) as caught:
        core.with_attempts(with_parts(attempt(400, 3)), attempts)
    assert caught.value.code == "bad_route"


def test_what_is_decided_stays_decided_but_a_preimage_makes_it_paid() -> None:
    one = attempt(1_000)
    failed = core.replaced(with_parts(one), one.mark, fate=FAILED, code="busy")
    assert core.replaced(failed, one.mark, fate=Fate.PENDING).attempts[0].code == "busy"
    paid = core.replaced(failed, one.mark, fate=PAID)
    assert core.replaced(paid, one.mark, fate=FAILED).fate is PAID


def test_a_failed_payment_is_begun_again_with_what_was_tried_before() -> None:
    failed = with_parts(attempt(1_000, fate=FAILED))
    again = core.begun_again(failed, replace(PAYMENT, max_fee=99))
    assert (again.max_fee, again.attempts) == (99, failed.attempts)
    with pytest.raises(ValueError, match="pending"):
        core.begun_again(with_parts(attempt(1)), PAYMENT)


@pytest.mark.parametrize(
    ("amount", "wanted", "expected"),
    [(1, None, 5), (500, None, 5), (600, None, 6), (100_000, None, 1_000), (100_000, 0, 0), (1, 7, 7)],
)
def test_a_payment_costs_a_hundredth_at_most_unless_its_payer_says(
    amount: int, wanted: int | None, expected: int
) -> None:
    assert most_fee(amount, wanted) == expected


class Story(RuleBasedStateMachine):
    """A payer that does what the core says, a desk and hops that do what they like, and crashes anywhere.

    `truth` is what the channels say: every lock that may stand, or was claimed. The payer knows of it only what it was
    told; `record` is what its disk has.
    """

    def __init__(self) -> None:
        super().__init__()
        self.record: Payment | None = None
        self.course = COURSE
        self.truth: dict[bytes, tuple[Attempt, str]] = {}
        self.over_paid = False

    @rule(amount=st.integers(1, 1_200), fee=st.integers(0, 12), parts=st.integers(1, 4), offered=st.booleans())
    @precondition(lambda self: self.course.stop is None)
    def looks_for_routes(self, amount: int, fee: int, parts: int, offered: bool) -> None:
        """The desk answers what it was asked, or nonsense; the process may die before the offers leave."""
        before = self.record or PAYMENT
        step = next_step(before, self.course, NOW)
        if isinstance(step, Stop):
            self.course = self.course.stopped(step.code, step.message)
        if not isinstance(step, Find):
            return
        shares = [(amount // parts, fee // parts)] * (parts - 1)
        shares.append((amount - sum(a for a, _ in shares), fee - sum(f for _, f in shares)))
        found = [attempt(units, cost, "hub") for units, cost in shares]
        try:
            self.record = core.with_attempts(before, found)
        except Refused:
            self.course = self.course.stopped("no_route", "nonsense")
            return
        self.course = Course(self.course.limits, self.course.tried + len(found), self.course.refusals, self.course.stop)
        self.truth |= {each.mark: (each, "may stand" if offered else "never offered") for each in found}

    @rule(place=st.integers(0, 20), end=st.sampled_from(["released", "claimed"]))
    @precondition(lambda self: any(state == "may stand" for _, state in self.truth.values()))
    def a_lock_ends(self, place: int, end: str) -> None:
        """It is claimed only by who has the preimage, whom the payee gave it: then all may be."""
        open_ones = [mark for mark, (_, state) in self.truth.items() if state == "may stand"]
        mark = open_ones[place % len(open_ones)]
        self.truth[mark] = (self.truth[mark][0], end)
        assert self.record is not None
        if end == "claimed":
            self.record = replace(core.replaced(self.record, mark, fate=PAID), preimage=PREIMAGE)
        else:
            self.record = core.replaced(self.record, mark, fate=FAILED, code="busy")

    @rule()
    def looks_for_what_was_never_offered(self) -> None:
        for mark, (_, state) in self.truth.items():
            if state == "never offered" and self.record is not None:
                self.record = core.replaced(self.record, mark, fate=FAILED, code="not_offered")

    @rule()
    def is_killed_and_asked_again(self) -> None:
        """What was pending is waited for, not begun again."""
        self.course = COURSE
        if self.record is not None and self.record.fate is FAILED:
            self.record = core.begun_again(self.record, PAYMENT)
        elif self.record is not None:
            self.course = COURSE.stopped("asked_again", "its fate is not known")

    @invariant()
    def never_pays_more_than_amount_and_fee(self) -> None:
        payable = [each for each, state in self.truth.values() if state in ("may stand", "claimed")]
        assert sum(each.received for each in payable) <= PAYMENT.amount
        assert sum(each.amount for each in payable) <= PAYMENT.amount + PAYMENT.max_fee

    @invariant()
    def knows_what_it_paid(self) -> None:
        claimed = sum(each.amount for each, state in self.truth.values() if state == "claimed")
        record = self.record or PAYMENT
        assert record.paid == claimed and (record.fate is PAID) == (claimed > 0)
        if record.attempts and record.fate is FAILED:
            assert not any(state == "may stand" for _, state in self.truth.values()), "failed is failed for certain"


TestStory = Story.TestCase
TestStory.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def test_a_circle_and_a_spontaneous_payment_are_payments_like_others() -> None:
    for kind in (Kind.CIRCLE, Kind.SPONTANEOUS):
        assert next_step(Payment(kind, HASH, PAYEE, 5, 0), COURSE, NOW) == Find(5, 0, 3, frozenset(), {})
    assert PAYEE != US
