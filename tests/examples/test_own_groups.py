"""The examples of machines in groups: they do what they say, in fewer than 80 lines, over real links too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from examples import auction, shared_counter
from examples.auction import Auction, Lot
from examples.shared_counter import MOST, Counter
from layer1.errors import Refused
from layer2.machine import StateMachine, apply_guarded

START = (0, 100, 100)
BIDS: list[tuple[str, Lot, int, bytes, Any]] = [
    ("the first bid pays the seller", Lot(), 1, b"bid 30", ((30, 70, 100), Lot(30, 1))),
    ("of nothing", Lot(), 1, b"bid 0", "bid_too_low"),
    ("of more than all", Lot(), 1, b"bid 101", "insufficient_balance"),
    ("by the seller", Lot(), 0, b"bid 30", "bad_command"),
    ("sold for nothing", Lot(), 0, b"sold", "bad_command"),
    ("no number", Lot(), 1, b"bid x", "bad_command"),
    ("below nothing", Lot(), 1, b"bid -5", "bad_command"),
    ("a number without end", Lot(), 1, b"bid " + b"9" * 4_000, "bad_command"),
    ("no bid", Lot(), 1, b"\xff\x00", "bad_command"),
    ("nothing", Lot(), 1, b"", "bad_command"),
]
LATER: list[tuple[str, int, bytes, Any]] = [
    ("who is outbid has its money back", 2, b"bid 45", ((45, 100, 55), Lot(45, 2))),
    ("one may outbid oneself", 1, b"bid 100", ((100, 0, 100), Lot(100, 1))),
    ("as much is not more", 2, b"bid 30", "bid_too_low"),
    ("a bidder cannot sell", 1, b"sold", "bad_command"),
    ("the seller can", 0, b"sold", ((30, 70, 100), Lot(30, 1, True))),
]
COUNTS: list[tuple[int, bytes, Any]] = [
    (0, b"+5", 5),
    (5, b"-5", 0),
    (5, b"-6", "out_of_range"),
    (MOST - 1, b"+1", "out_of_range"),
    (0, b"5", "bad_command"),
    (0, b"+", "bad_command"),
    (0, b"++5", "bad_command"),
    (0, b"+" + b"9" * 4_000, "bad_command"),
    (0, b"+\xb2", "bad_command"),
]


def check(machine: StateMachine, state: Any, balances: tuple[int, ...], member: int, command: bytes) -> Any:
    try:
        return apply_guarded(machine, state, balances, member, command)
    except Refused as refusal:
        return refusal.code


@pytest.mark.parametrize(("lot", "member", "command", "expected"), [row[1:] for row in BIDS], ids=[r[0] for r in BIDS])
def test_the_first_bid(lot: Lot, member: int, command: bytes, expected: Any) -> None:
    assert check(Auction(), lot, START, member, command) == expected


@pytest.mark.parametrize(("member", "command", "expected"), [row[1:] for row in LATER], ids=[r[0] for r in LATER])
def test_a_later_bid(member: int, command: bytes, expected: Any) -> None:
    assert check(Auction(), Lot(30, 1), (30, 70, 100), member, command) == expected


def test_after_the_hammer_nothing() -> None:
    assert check(Auction(), Lot(30, 1, True), (30, 70, 100), 2, b"bid 45") == "sold"


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 120)), max_size=30))
def test_every_version_of_an_auction_is_fair(bids: list[tuple[int, int]]) -> None:
    """The seller has the highest bid, its bidder paid it, everybody else has all of its money."""
    machine, state, balances = Auction(), Lot(), START
    for member, bid in bids:
        found = check(machine, state, balances, member, b"bid %d" % bid)
        if not isinstance(found, str):
            balances, state = found
        state = machine.decode(machine.encode(state), 3)
        assert balances == tuple(START[i] + state.bid * ((i == 0) - (i == state.bidder)) for i in range(3))


@pytest.mark.parametrize(("state", "command", "expected"), COUNTS)
def test_counting(state: int, command: bytes, expected: Any) -> None:
    machine = Counter()
    found = check(machine, state, (0, 0), 1, command)
    assert found == (expected if isinstance(expected, str) else ((0, 0), expected))
    assert machine.decode(machine.encode(state), 2) == state


@pytest.mark.parametrize("example", [auction, shared_counter])
def test_it_has_fewer_than_80_lines(example: Any) -> None:
    assert len(Path(example.__file__).read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.slow
async def test_the_counter_runs(capsys: pytest.CaptureFixture[str]) -> None:
    await shared_counter.main()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("Cid is refused: 250 would become -750")
    assert lines[1].startswith("All signed [250, 250, 250]")
    assert lines[2] == "The group waits for Cid, Bob knows"


@pytest.mark.slow
async def test_the_auction_runs(capsys: pytest.CaptureFixture[str]) -> None:
    await auction.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[2] for line in lines[:-1]] == ["bids", "bids", "cannot:", "bids", "cannot:", "bids"]
    assert lines[-1] == "Sold. All 5 have signed the payout (70, 100, 30, 100, 100)"
