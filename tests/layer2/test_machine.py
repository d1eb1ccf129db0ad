"""The machines: payments, and what the core enforces around any machine."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1.errors import Refused
from layer2.machine import Balances, apply_guarded
from layer2.payments import MAX_MEMO_BYTES, Payments, pay

PAYMENTS = Payments()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"", "bad_command"),
        (b"\xc0", "bad_command"),
        (pay(1, 1) + b"\0", "bad_command"),
        (pay(0, 1), "bad_payee"),
        (pay(2, 1), "bad_payee"),
        (pay(-1, 1), "bad_payee"),
        (pay(1, 0), "bad_amount"),
        (pay(1, -5), "bad_amount"),
        (pay(1, 101), "insufficient_balance"),
        (pay(1, 1, bytes(MAX_MEMO_BYTES + 1)), "memo_too_long"),
    ],
)
def test_refuses(command: bytes, code: str) -> None:
    """Whatever the bytes are, the machine answers with Refused and nothing else."""
    with pytest.raises(Refused) as refusal:
        PAYMENTS.apply(None, (100, 100), 0, command)
    assert refusal.value.code == code


def test_pays_all_that_there_is() -> None:
    assert PAYMENTS.apply(None, (100, 7), 0, pay(1, 100, b"x" * MAX_MEMO_BYTES)) == ((0, 107), None)


@given(st.binary(max_size=40), st.integers(0, 1))
def test_never_raises_anything_but_refused(command: bytes, member: int) -> None:
    try:
        balances, _ = PAYMENTS.apply(None, (50, 60), member, command)
    except Refused:
        return
    assert sum(balances) == 110 and min(balances) >= 0


@given(
    st.lists(st.integers(0, 2**53 - 1), min_size=2, max_size=4),
    st.data(),
)
def test_agrees_with_a_ledger_kept_by_hand(start: list[int], data: st.DataObject) -> None:
    """Against a deliberately dumb twin: payer down, payee up, nobody else."""
    member = data.draw(st.integers(0, len(start) - 1))
    payee = data.draw(st.integers(0, len(start) - 1).filter(lambda i: i != member))
    amount = data.draw(st.integers(1, max(start[member], 1)))
    expected = list(start)
    expected[member] -= amount
    expected[payee] += amount
    if amount > start[member]:
        with pytest.raises(Refused):
            PAYMENTS.apply(None, tuple(start), member, pay(payee, amount))
    else:
        assert PAYMENTS.apply(None, tuple(start), member, pay(payee, amount)) == (tuple(expected), None)


class Robber(Payments):
    """A machine that does to balances whatever the command says."""

    def apply(self, state: Any, balances: Balances, member: int, command: bytes) -> tuple[Balances, None]:
        return tuple(int(units) for units in command.split(b",")), None


@pytest.mark.parametrize("after", [b"110,89", b"200,1", b"-1,201", b"100,100,0", b"200", b"101,100", b"100,99"])
def test_no_machine_takes_from_others_or_makes_money(after: bytes) -> None:
    """ "Its own balance falls only by commands that it issued itself"; "sum(balances) = funding, always"."""
    with pytest.raises(Refused) as refusal:
        apply_guarded(Robber(), None, (100, 100), 0, after)
    assert refusal.value.code == "unfair_command"
    assert apply_guarded(Robber(), None, (100, 100), 1, b"150,50") == ((150, 50), None)
