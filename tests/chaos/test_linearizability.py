"""The checker itself: it finds what it must, and agrees with a search that tries every order."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.history import History, Move, Read, Write, plan_moves
from tests.chaos.linearizability import explain

START = 1_000


def _write(invoked: float, returned: float, amount: int = 1, client: int = 0, sender: int = 0) -> Write:
    return Write(client, Move(sender, 1 - sender, amount), invoked, returned)


def _read(invoked: float, returned: float, balance: int, client: int = 0, account: int = 1) -> Read:
    return Read(client, account, balance, invoked, returned)


def _history(*operations: Write | Read) -> History:
    history = History([START, START])
    for operation in operations:
        if isinstance(operation, Write):
            history.writes.append(operation)
        else:
            history.reads.append(operation)
    return history


@pytest.mark.parametrize(
    "description, operations",
    [
        ("a read before and one after", (_write(1, 2), _write(3, 4, 2), _read(0, 0.5, START), _read(5, 6, START + 3))),
        ("a read at the same time may see it", (_write(1, 3), _read(2, 2.5, START + 1))),
        ("a read at the same time may not see it", (_write(1, 3), _read(2, 2.5, START))),
        ("one of unknown fate may have happened", (_write(1, math.inf), _read(5, 6, START + 1))),
        ("one of unknown fate may never happen", (_write(1, math.inf), _read(5, 6, START))),
        ("one of unknown fate may happen late", (_write(1, math.inf), _read(5, 6, START), _read(7, 8, START + 1))),
        ("both sides of a transfer change", (_write(1, 2), _read(3, 4, START - 1, account=0), _read(5, 6, START + 1))),
    ],
)  # fmt: skip
def test_what_one_order_explains_is_accepted(description: str, operations: tuple[Write | Read, ...]) -> None:
    assert explain(_history(*operations)) is None, description


@pytest.mark.parametrize(
    "description, operations",
    [
        ("a stale read", (_write(1, 2), _read(3, 4, START))),
        ("a stale read of the sender", (_write(1, 2), _read(3, 4, START, account=0))),
        ("a lost write", (_write(1, 2), _read(3, 4, START + 1), _read(5, 6, START))),
        ("a read of what is not yet invoked", (_write(3, 4), _read(1, 2, START + 1))),
        ("two reads of one transfer that do not agree", (_write(1, 9), _read(2, 3, START + 1), _read(4, 5, START))),
        (
            "two reads that see two transfers in two orders",
            (_write(1, 9), _write(1, 9, 2), _read(2, 8, START + 1), _read(2, 8, START + 2)),
        ),
        ("half a transfer", (_write(1, 9), _read(2, 3, START + 1), _read(4, 5, START, account=0))),
        ("money of nobody", (_write(1, 2), _read(3, 4, START + 2))),
        ("a dead transfer that is seen", (replace(_write(1, math.inf), dead=True), _read(3, 4, START + 1))),
    ],
)
def test_what_no_order_explains_is_found(description: str, operations: tuple[Write | Read, ...]) -> None:
    assert explain(_history(*operations)) is not None, description


def test_a_read_may_be_as_old_as_was_promised_and_not_older() -> None:
    old = _history(_write(1, 2, client=0), _read(7, 8, START, client=1))
    assert explain(old, staleness_s=5.5) is None
    assert explain(old, staleness_s=4.5) is not None


@pytest.mark.parametrize(
    "description, operations",
    [
        ("its own write is lost on it", (_write(1, 2), _read(3, 4, START))),
        ("it goes back", (_write(1, 9, client=1), _read(2, 3, START + 1), _read(4, 5, START))),
    ],
)
def test_no_staleness_excuses_a_client_that_forgets(description: str, operations: tuple[Write | Read, ...]) -> None:
    assert explain(_history(*operations), staleness_s=1_000) is not None, description


def test_amounts_are_never_confused() -> None:
    moves = list(plan_moves(4, Random(1)))
    assert len(moves) > 60
    for account in range(4):
        own = [move.amount for move in moves if account in (move.sender, move.recipient)]
        assert len(own) == len(set(own))


# ------------------------------------------------------------------------------------------------------ the dumb twin


def _orders(left: frozenset[Write | Read]) -> Iterator[Write | Read]:
    """Operations that may come next: nothing that is left returned before they were invoked."""
    ends = min((operation.returned for operation in left), default=math.inf)
    return (operation for operation in left if operation.invoked <= ends)


def _search(left: frozenset[Write | Read], balances: tuple[int, int]) -> bool:
    """Wing and Gong: try every order."""
    if all(isinstance(operation, Write) and operation.returned == math.inf for operation in left):
        return True
    for operation in _orders(left):
        if isinstance(operation, Read):
            if operation.balance == balances[operation.account] and _search(left - {operation}, balances):
                return True
        else:
            amount = operation.move.amount * (1 if operation.move.sender == 1 else -1)
            if _search(left - {operation}, (balances[0] + amount, balances[1] - amount)):
                return True
    return False


_SPANS = st.tuples(st.integers(0, 6), st.integers(1, 4))


@st.composite
def _histories(draw: st.DrawFn) -> History:
    history = History([START, START])
    for exponent, (begin, length) in enumerate(draw(st.lists(_SPANS, max_size=4))):
        end = math.inf if draw(st.booleans()) else begin + length + 0.5
        sender = draw(st.integers(0, 1))
        history.writes.append(_write(begin, end, 1 << exponent, sender=sender))
    for begin, length in draw(st.lists(_SPANS, max_size=4)):
        account, change = draw(st.integers(0, 1)), 0
        for write in history.writes:
            if draw(st.booleans()):
                change += write.move.amount if account == write.move.recipient else -write.move.amount
        history.reads.append(_read(begin, begin + length + 0.5, START + change, account=account))
    return history


@given(_histories())
def test_the_graph_agrees_with_a_search_through_all_orders(history: History) -> None:
    operations = frozenset[Write | Read]([*history.writes, *history.reads])
    assert (explain(history) is None) == _search(operations, (START, START))
