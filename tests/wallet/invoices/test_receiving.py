"""The payee's half: which locks pay an invoice, and what its owner may still do (rules 20 to 22, decision 038)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from layer1.errors import Refused
from tests.wallet.invoices.samples import PLAIN, PREIMAGE, signed
from wallet.invoices.receiving import Turned, cancel, claimed, lapsed, receive, settle
from wallet.invoices.records import Incoming, Issued, Stage
from wallet.onion.failure import Code
from wallet.onion.payload import Final

ASKED = 12_345
NOW_MS = PLAIN.created_ms + 1_000
PART = Incoming(bytes(32), 7, ASKED, NOW_MS + PLAIN.lock_ms, bytes(32))
FINAL = Final(ASKED, ASKED, PLAIN.payment_secret)
OPEN = Issued(signed(), False, PREIMAGE)
HOLD = Issued(signed(), True, PREIMAGE)
ANY_AMOUNT = Issued(signed(amount=None), False, PREIMAGE)


def test_a_lock_that_pays_is_claimed_and_a_hold_invoice_waits_for_its_owner() -> None:
    taken = receive(OPEN, FINAL, PART, NOW_MS)
    assert taken == replace(OPEN, stage=Stage.CLAIMING, parts=(PART,), total=ASKED)
    assert receive(HOLD, FINAL, PART, NOW_MS) == replace(HOLD, stage=Stage.HELD, parts=(PART,), total=ASKED)
    assert claimed(taken, PART) == replace(OPEN, stage=Stage.PAID, received=ASKED, total=ASKED)


@pytest.mark.parametrize("amount", [ASKED, ASKED + 1, 2 * ASKED])
def test_a_payer_may_add_something(amount: int) -> None:
    final = replace(FINAL, amount=amount, total=amount)
    assert isinstance(receive(OPEN, final, replace(PART, amount=amount), NOW_MS), Issued)


def test_an_open_amount_takes_any() -> None:
    for amount in (1, 10**12):
        final = replace(FINAL, amount=amount, total=amount)
        assert isinstance(receive(ANY_AMOUNT, final, replace(PART, amount=amount), NOW_MS), Issued)


@pytest.mark.parametrize(
    ("issued", "final", "part", "clock_ms", "why"),
    [
        (None, FINAL, PART, NOW_MS, "no invoice has this hash"),
        (OPEN, replace(FINAL, payment_secret=bytes(16)), PART, NOW_MS, "another payment secret"),
        (OPEN, FINAL, PART, PLAIN.expires_ms + 1, "expired"),
        (
            OPEN,
            replace(FINAL, amount=ASKED - 1, total=ASKED - 1),
            replace(PART, amount=ASKED - 1),
            NOW_MS,
            "12345 were",
        ),
        (OPEN, FINAL, replace(PART, amount=ASKED - 1), NOW_MS, "12344 units of 12345"),
        (OPEN, FINAL, replace(PART, amount=2 * ASKED + 1), NOW_MS, "at most 2 times"),
        (OPEN, replace(FINAL, total=2 * ASKED + 1), PART, NOW_MS, "24691 units, at most 2 times"),
        (ANY_AMOUNT, FINAL, replace(PART, amount=2 * ASKED + 1), NOW_MS, "at most 2 times"),
        (replace(OPEN, stage=Stage.PAID), FINAL, PART, NOW_MS, "the invoice is paid"),
        (replace(OPEN, stage=Stage.CANCELLED), FINAL, PART, NOW_MS, "the invoice is cancelled"),
        (replace(OPEN, stage=Stage.MISSED), FINAL, PART, NOW_MS, "the invoice is missed"),
        (replace(OPEN, stage=Stage.CLAIMING, parts=(PART,)), FINAL, replace(PART, lock=8), NOW_MS, "is claiming"),
        (replace(HOLD, stage=Stage.HELD, parts=(PART,)), FINAL, replace(PART, lock=8), NOW_MS, "the invoice is held"),
    ],
)
def test_what_does_not_pay_is_turned_away_and_the_payer_learns_no_more(
    issued: Issued | None, final: Final, part: Incoming, clock_ms: int, why: str
) -> None:
    """One code for all: who has a hash alone learns nothing."""
    answer = receive(issued, final, part, clock_ms)
    assert isinstance(answer, Turned)
    assert (answer.code, why in answer.why) == (Code.UNKNOWN_PAYMENT, True)


def test_a_lock_with_too_little_time_left_is_turned_away() -> None:
    answer = receive(OPEN, FINAL, PART, NOW_MS + 1)
    assert isinstance(answer, Turned)
    assert answer.code is Code.EXPIRES_TOO_SOON
    assert "59999 ms, asked: 60000" in answer.why


def test_whoever_does_not_know_the_secret_learns_nothing_of_the_time_either() -> None:
    answer = receive(OPEN, replace(FINAL, payment_secret=bytes(16)), replace(PART, expiry_ms=1), NOW_MS)
    assert isinstance(answer, Turned)
    assert answer.code is Code.UNKNOWN_PAYMENT


@pytest.mark.parametrize("stage", list(Stage))
def test_news_that_come_twice_change_nothing(stage: Stage) -> None:
    """After a crash the layers below repeat what they said."""
    held = replace(OPEN, stage=stage, parts=(PART,))
    assert receive(held, FINAL, PART, NOW_MS) == held


def test_the_owner_settles_what_is_held() -> None:
    held = replace(HOLD, stage=Stage.HELD, parts=(PART,))
    assert settle(held) == replace(held, stage=Stage.CLAIMING)
    hash_alone = replace(held, preimage=b"")
    with pytest.raises(Refused, match="--preimage"):
        settle(hash_alone)
    with pytest.raises(Refused, match="it proves nothing"):
        settle(hash_alone, bytes(32))
    assert settle(hash_alone, PREIMAGE) == replace(held, stage=Stage.CLAIMING)


@pytest.mark.parametrize("stage", [each for each in Stage if each is not Stage.HELD])
def test_only_what_is_held_is_settled(stage: Stage) -> None:
    with pytest.raises(Refused, match=f"the invoice is {stage}") as caught:
        settle(replace(HOLD, stage=stage))
    assert caught.value.code == "not_held"


@pytest.mark.parametrize("stage", list(Stage))
def test_what_is_given_away_is_not_cancelled(stage: Stage) -> None:
    issued = replace(HOLD, stage=stage, parts=(PART,) if stage is Stage.HELD else ())
    if stage in (Stage.CLAIMING, Stage.PAID):
        with pytest.raises(Refused, match="the invoice is paid"):
            cancel(issued)
    else:
        assert cancel(issued) == replace(issued, stage=Stage.CANCELLED), "its locks are released by the driver"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (Stage.HELD, Stage.OPEN),
        (Stage.CLAIMING, Stage.MISSED),
        (Stage.CANCELLED, Stage.CANCELLED),
        (Stage.PAID, Stage.PAID),
    ],
)
def test_a_lock_that_is_gone_unclaimed(before: Stage, after: Stage) -> None:
    assert lapsed(replace(HOLD, stage=before, parts=(PART,)), PART) == replace(HOLD, stage=after)


moves = st.lists(st.sampled_from(["pay", "pay less", "settle", "cancel", "claimed", "lapsed"]), max_size=12)


@given(st.booleans(), moves)
def test_a_preimage_leaves_for_one_full_payment_at_most(hold: bool, told: list[str]) -> None:
    """Whatever happens in whatever order: it is claimed only while a lock of enough is there, and received once."""
    issued, given_away = (HOLD if hold else OPEN), 0
    for number, move in enumerate(told, 1):
        before: Any = issued
        part = issued.parts[0] if issued.parts else replace(PART, lock=number)
        try:
            match move:
                case "pay" | "pay less":
                    fresh = replace(PART, lock=number, amount=ASKED if move == "pay" else 1)
                    answer = receive(issued, FINAL, fresh, NOW_MS)
                    issued = answer if isinstance(answer, Issued) else issued
                case "settle":
                    issued = settle(issued)
                case "cancel":
                    issued = cancel(issued)
                case "claimed" if issued.stage is Stage.CLAIMING and issued.parts:
                    issued = claimed(issued, part)
                case "lapsed" if issued.parts:
                    issued = lapsed(issued, part)
                case _:
                    continue
        except Refused:
            assert issued == before
        if issued.stage is Stage.CLAIMING and before.stage is not Stage.CLAIMING:
            given_away += 1
            assert sum(each.amount for each in issued.parts) >= ASKED
    assert given_away <= 1
    assert issued.received in (0, ASKED)
