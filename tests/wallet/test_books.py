"""The books: they add up to the unit, and a unit that is in the wrong place is found."""

from __future__ import annotations

import asyncio
import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from layer1.errors import Refused
from tests.wallet.conftest import World
from wallet import bookkeeping
from wallet.api.labels import LabelBook
from wallet.api.store import Store
from wallet.bookkeeping import channel_books
from wallet.channel import Channel
from wallet.csv_history import COLUMNS, FORMULA, csv_of, text_cell
from wallet.history import NOTES, History, Sums
from wallet.requests import CurrencyView, EntryView, HistoryView
from wallet.wallet import Wallet


async def opened(world: World) -> tuple[Wallet, Wallet, Channel]:
    alice = await world.load("alice")
    bob, contact = await world.serve("bob")
    channel = await alice.open_channel(contact, deposit=20_000, peer_deposit=10_000, bond=1_000)
    return alice, bob, channel


async def has(wallet: Wallet, channel: Channel, balance: int) -> None:
    """Wait until a member holds the state of this balance: one of the two is the first to have it."""
    view = wallet.channel(channel.id.hex()).view
    await wallet._parts.signals.until(lambda: True if view().balance == balance else None, 10)


async def test_the_books_add_up_through_the_life_of_a_channel(world: World) -> None:
    """ "A balance sheet that agrees with layer 1 to the unit"."""
    alice, bob, channel = await opened(world)
    start = (await alice.books()).total
    assert start == 100_000  # opening moves money about, and spends none
    await channel.pay_many(3, 1_000)
    await bob.channel(channel.id.hex()).pay(500)
    for wallet, total in ((alice, 97_500), (bob, 102_500)):
        await has(wallet, channel, total - (80_000 if wallet is alice else 90_000))
        books = await wallet.books()
        assert (books.adds_up, books.total, books.differences) == (True, total, ())
        assert books.channels[0].by_history == books.channels[0].balance, books.channels
        assert books.channels[0].on_ledger == 32_000
    await channel.top_up(700)
    await channel.withdraw(200)
    await channel.pay(1)
    await has(alice, channel, 17_999)
    mid = await alice.books()
    assert (mid.adds_up, mid.total, mid.channels[0].put_in, mid.channels[0].taken_out) == (True, 97_499, 21_700, 200)
    await channel.close()
    for wallet, total in ((alice, 97_499), (bob, 102_501)):
        await wallet.channels()
        books = await wallet.books()
        assert (books.adds_up, books.total, books.in_channels, books.bonds) == (True, total, 0, 0)
        line = books.channels[0]
        assert (line.open, line.received - line.paid) == (False, total - 100_000)
        assert line.taken_out - line.put_in == total - 100_000


async def test_they_add_up_while_payments_are_under_way(world: World) -> None:
    """One instant is counted: neither the state nor the history of a moment later."""
    alice, bob, channel = await opened(world)
    back = bob.channel(channel.id.hex())
    paying = asyncio.gather(channel.pay_many(1, 3_000), back.pay_many(1, 2_000))
    while not paying.done():
        books = await alice.books()
        assert books.adds_up, books.differences
    await paying
    assert (await alice.books()).adds_up


Spoil = Any


def with_body(sources: bookkeeping.Sources, body: Any) -> bookkeeping.Sources:
    assert sources.group is not None
    state = structs.replace(sources.group.state, body=body)
    return replace(sources, group=structs.replace(sources.group, state=state))


def one_more_in_the_state(sources: bookkeeping.Sources) -> bookkeeping.Sources:
    assert sources.group is not None
    body = sources.group.state.body
    wrong = structs.replace(body, balances=(body.balances[0] + 1, body.balances[1]))
    return replace(
        sources, group=structs.replace(sources.group, state=structs.replace(sources.group.state, body=wrong))
    )


def moved_in_the_state(sources: bookkeeping.Sources) -> bookkeeping.Sources:
    assert sources.group is not None
    body = sources.group.state.body
    wrong = structs.replace(body, balances=(body.balances[0] + 1, body.balances[1] - 1))
    return replace(
        sources, group=structs.replace(sources.group, state=structs.replace(sources.group.state, body=wrong))
    )


def one_less_on_the_ledger(sources: bookkeeping.Sources) -> bookkeeping.Sources:
    assert sources.shown is not None
    member = structs.replace(sources.shown.agreement.members[0], bond=999)
    members = (member, sources.shown.agreement.members[1])
    agreement = structs.replace(sources.shown.agreement, members=members)
    return replace(sources, shown=structs.replace(sources.shown, agreement=agreement))


def one_more_in_the_history(sources: bookkeeping.Sources) -> bookkeeping.Sources:
    sources.sums.units["received"] += 1
    return sources


def missing_on_the_ledger(sources: bookkeeping.Sources) -> bookkeeping.Sources:
    return replace(sources, shown=None)


WRONG = [
    (one_more_in_the_state, "the state has 30001 units, the members agreed on 30000"),
    (moved_in_the_state, "the history makes 20000 units ours, the state 20001"),
    (one_less_on_the_ledger, "state and bonds have 32000 units, the ledger holds 31999"),
    (one_more_in_the_history, "the history makes 20001 units ours, the state 20000"),
]


@pytest.mark.parametrize(("spoil", "said"), WRONG, ids=lambda each: getattr(each, "__name__", ""))
async def test_a_wrong_unit_is_found_wherever_it_is(world: World, spoil: Spoil, said: str, monkeypatch: Any) -> None:
    alice, _, _ = await opened(world)
    assert (await alice.books()).adds_up
    right = channel_books
    monkeypatch.setattr(bookkeeping, "channel_books", lambda sources: right(spoil(sources)))
    books = await alice.books()
    assert not books.adds_up
    assert said in " ".join(books.differences)


async def test_a_wrong_end_is_found(world: World, monkeypatch: Any) -> None:
    alice, _, channel = await opened(world)
    await channel.close()
    assert (await alice.books()).adds_up
    right = channel_books

    def spoil(sources: bookkeeping.Sources) -> Any:
        payouts = tuple(units + 1 for units in sources.record.payouts)
        return right(replace(sources, record=structs.replace(sources.record, payouts=payouts)))

    monkeypatch.setattr(bookkeeping, "channel_books", spoil)
    differences = " ".join((await alice.books()).differences)
    for said in ("the ledger paid 21000 units, the book has 21001", "21000 units were paid out, the book 21001"):
        assert said in differences


async def test_pruned_payments_are_not_called_a_difference(world: World) -> None:
    """What is no longer here cannot be counted; state and ledger are compared all the same."""
    alice, _, channel = await opened(world)
    for _ in range(3):
        await channel.pay(5)
    assert (await alice.books()).channels[0].by_history == 19_985
    assert alice.prune(2**50) == 2
    books = await alice.books()
    assert (books.adds_up, books.channels[0].by_history, books.channels[0].balance) == (True, None, 19_985)


def test_sums_are_whole_or_say_so() -> None:
    sums = Sums()
    assert sums.is_whole(0, 0)
    assert not sums.is_whole(0, 1)
    sums.versions[0], sums.newest = 1, 2
    assert not sums.is_whole(0, 2)


# ------------------------------------------------------------------------------------------------------------- CSV


def entry(**values: Any) -> EntryView:
    known: dict[str, Any] = {"time_ms": 0, "kind": "received", "amount": 1, "channel": "ab", "peer": "cd"}
    return EntryView(**known | {"memo": None, "reference": "r"} | values)


def history(*entries: EntryView, decimals: int = 2, **labels: str) -> HistoryView:
    return HistoryView(entries=entries, currency=CurrencyView(symbol="WDG", decimals=decimals), labels=labels)


def test_columns_are_stable_and_rows_end_as_the_standard_says() -> None:
    text = csv_of(history(entry(amount=-250, memo='a "b", c\nd', time_ms=1_500), r="mine"))
    assert text.startswith("time,kind,amount,currency,channel,peer,memo,label,reference,payment_hash,noted,fee,via\r\n")
    assert text.endswith("\r\n")
    rows = list(csv.reader(io.StringIO(text, newline="")))
    mine = ["1970-01-01T00:00:01.500Z", "received", "-2.50", "WDG", "ab", "cd", 'a "b", c\nd', "mine", "r"]
    assert rows[1] == [*mine, "", "", "", ""]


def test_the_amounts_of_a_table_add_up_though_notes_repeat_them() -> None:
    """A note says what a payment was; its locks have moved the money, and a sheet that sums counts it once."""
    lock = entry(kind="received_lock", amount=250, reference="g:lock:1:end")
    note = entry(kind="invoice_paid", amount=250, channel=None, peer=None, payment_hash="cd" * 32, memo="=tea")
    earned = entry(kind="forwarded", amount=3, via="ef", reference="f")
    paid = entry(kind="payment", amount=-100, fee=2, channel=None, reference="p")
    labels = {"cd" * 32: "order 7"}
    rows = list(csv.DictReader(io.StringIO(csv_of(structs.replace(history(lock, note, earned, paid), labels=labels)))))
    assert [row["amount"] for row in rows] == ["2.50", "", "", ""]
    assert [row["noted"] for row in rows] == ["", "2.50", "0.03", "-1.00"]
    assert (rows[1]["payment_hash"], rows[1]["label"], rows[1]["memo"]) == ("cd" * 32, "order 7", "'=tea")
    assert (rows[2]["via"], rows[3]["fee"]) == ("ef", "0.02")


def test_notes_are_in_no_sum_of_a_channel_and_their_fees_are_counted_on_both_sides(tmp_path: Path) -> None:
    found = History(tmp_path / "wallet.db")
    found.add("g:lock:1:end", "received_lock", 100, channel="aa")
    found.add("h:lock:1", "locked", -97, channel="bb")
    found.add("forward:1", "forwarded", 3, channel="aa", via="bb", payment_hash="11")
    found.add("payment:2", "payment", -50, channel="bb", payment_hash="22", fee=2)
    found.add("invoice:3:paid", "invoice_paid", 70, payment_hash="33")
    sums = found.sums({})
    assert (sums["aa"].units["forwarded"], sums["aa"].earned_out, sums["aa"].fees) == (3, 0, 0)
    assert (sums["bb"].units["forwarded"], sums["bb"].earned_out, sums["bb"].fees) == (0, 3, 2)
    assert bookkeeping.BESIDE_PAYMENTS >= NOTES
    found.close()


@pytest.mark.parametrize(
    ("units", "decimals", "shown"),
    [(5, 2, "0.05"), (-5, 2, "-0.05"), (0, 2, "0.00"), (7, 0, "7"), (123456, 3, "123.456")],
)
def test_amounts_are_numbers_with_a_point(units: int, decimals: int, shown: str) -> None:
    rows = list(csv.reader(io.StringIO(csv_of(history(entry(amount=units), decimals=decimals)))))
    assert rows[1][2] == shown


@given(st.text(max_size=70), st.text(max_size=70))
def test_no_word_of_another_is_a_formula(memo: str, label: str) -> None:
    text = csv_of(history(entry(memo=memo), r=label))
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len(rows) == 2
    assert len(rows[1]) == len(COLUMNS)
    for cell, said in zip(rows[1][6:8], (memo, label), strict=True):
        assert not cell.lstrip(" \ufeff\u200b\u00a0").startswith(FORMULA)
        assert cell.replace("\r\n", "\n") in (said.replace("\r\n", "\n"), f"'{said}".replace("\r\n", "\n"))


@pytest.mark.parametrize(
    "memo",
    ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "\ufeff=1", "＝1+1", '=HYPERLINK("http://evil")', "%0A=1"],
)
def test_known_injections_are_defused(memo: str) -> None:
    assert text_cell(memo) == f"'{memo}"


def test_the_closest_label_is_shown(tmp_path: Path) -> None:
    store = Store(tmp_path / "api.db")
    book = LabelBook(store)
    for subject, text in (("cd", "peer"), ("ab", "channel"), ("r", "entry"), ("other", "x")):
        book.set(subject, text)
    view = book.beside(HistoryView(entries=(entry(),), currency=CurrencyView(symbol="W", decimals=0)))
    assert view.labels == {"cd": "peer", "ab": "channel", "r": "entry"}
    for subject, shown in (("r", "entry"), ("ab", "channel"), ("cd", "peer")):
        view = book.beside(HistoryView(entries=(entry(),), currency=CurrencyView(symbol="W", decimals=0)))
        assert next(csv.reader(io.StringIO(csv_of(view).split("\r\n")[1])))[7] == shown
        book.set(subject, "")
    assert LabelBook(store).all == {"other": "x"}
    with pytest.raises(Refused):
        book.set("r", "x" * 201)
    store.close()


def test_a_row_of_no_entry_stops_no_reader(tmp_path: Path) -> None:
    """Versions that hold locks alone stand for no entry of their own."""
    found = History(tmp_path / "wallet.db")
    assert found.last()[0] == 0
    for version in range(1, 4):
        found.add_payments("ab", "cd", version, 0, ())
    found.add("x", "closed", 5, channel="ab")
    assert [view.kind for _, view in found.after((0, 0), 1)] == ["closed"]
    assert found.after(found.last(), 10) == []
    found.close()
