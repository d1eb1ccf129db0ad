"""Who waits for which transaction."""

from __future__ import annotations

from layer1.api.backend import Located
from layer1.errors import Refused
from layer1.ledger.transactions import Output
from layer1.replica.waiting import Waiting

ONE, TWO = b"1" * 32, b"2" * 32
PLACE = Located(3, 0, Output(ONE, "ok", ""))


def test_a_waiter_is_told_once_when_nothing_is_missing() -> None:
    waiting, calls = Waiting(), []
    waiter = waiting.add([ONE, TWO, ONE], lambda: calls.append(1))
    waiting.settle(ONE, PLACE)
    assert calls == []
    waiting.settle(TWO, None, Refused("expired", "too late"))
    assert calls == [1]
    assert waiter.found == {ONE: PLACE}
    assert waiter.refusal is not None
    assert waiter.refusal.code == "expired"


def test_what_was_settled_before_is_known_at_once() -> None:
    """Verification, and even finality, may come before the caller begins to wait."""
    waiting = Waiting()
    waiting.settle(ONE, PLACE)
    waiting.settle(TWO, None, Refused("bad_signature", "no"))
    waiter = waiting.add([ONE, TWO], lambda: None)
    assert not waiter.missing
    assert waiter.found == {ONE: PLACE}
    assert waiter.refusal is not None


def test_taken_again_it_is_no_longer_refused() -> None:
    waiting = Waiting()
    waiting.settle(ONE, None, Refused("bad_signature", "no"))
    waiting.opened([ONE])
    assert waiting.is_open(ONE)
    assert waiting.add([ONE], lambda: None).missing == {ONE}
    waiting.settle(ONE, PLACE)
    assert not waiting.is_open(ONE)


def test_one_that_waits_no_longer_is_forgotten() -> None:
    waiting, calls = Waiting(), []
    first, second = waiting.add([ONE], lambda: calls.append(1)), waiting.add([ONE], lambda: calls.append(2))
    waiting.remove(first)
    waiting.settle(ONE, PLACE)
    assert calls == [2]
    waiting.remove(second)
