"""Changing channels, as the wallet sees it: keys, terms of reopening, what is shown."""

from __future__ import annotations

from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from layer1.errors import LocalError, Refused
from layer1.ledger.agreements import GroupAgreement, Member
from layer1.ledger.genesis import Currency
from layer1.ledger.transactions import OpenGroup, Transaction
from layer2.terms import change_members
from wallet.book import ChannelBook, ChannelRecord, Stage
from wallet.keystore import HotKeys
from wallet.render import render
from wallet.requests import ChangeView
from wallet.views import channel_view
from wallet.wallet import settled_terms

CURRENCY = Currency("WDG", 2)


def hot_keys() -> HotKeys:
    from layer1.crypto import SigningKey

    return HotKeys(SigningKey(b"s" * 32), b"g" * 32)


def record(keys: HotKeys, number: int = 0, **changes: object) -> ChannelRecord:
    me = Member(keys.group_key(number).public, keys.spending.public, b"p" * 32, 1_000, 50)
    peer = Member(b"k" * 32, b"f" * 32, b"q" * 32, 500, 50)
    agreement = GroupAgreement(b"c" * 32, (me, peer), 60_000, "payments/2", 10**6, number.to_bytes(16, "big"))
    made = ChannelRecord(Transaction(OpenGroup(agreement), 1, b"t" * 16), 0, number, b"f" * 32, stage=Stage.OPEN)
    return structs.replace(made, **changes)


def rekeyed(found: ChannelRecord, keys: HotKeys, number: int) -> GroupAgreement:
    member = structs.replace(found.me, key=keys.group_key(number).public)
    return change_members(found.opening, 0, {0: member}, [0, 0], expires_ms=9, salt=b"z" * 16).agreement


def test_a_key_of_a_later_epoch_is_found_whatever_the_book_knows_of_the_epoch(tmp_path: Path) -> None:
    """The journal may be an epoch ahead of the book: the key is durable there before anything names it."""
    keys, book = hot_keys(), ChannelBook(tmp_path / "channels")
    book.put(record(keys, 0))
    book.put(record(keys, 1))
    again = ChannelBook(tmp_path / "channels")
    found = again.get(record(keys, 1).group_id)
    assert found is not None
    number = again.take_key_index()
    assert number == 2
    again.put(structs.replace(found, later_keys=(number,)))
    assert again.take_key_index() == 3
    later = rekeyed(found, keys, number)
    assert again.key_of(keys, later, 0).public == keys.group_key(number).public
    assert again.key_of(keys, found.opening, 0).public == keys.group_key(1).public
    with pytest.raises(LocalError, match="no file"):
        again.key_of(keys, rekeyed(found, keys, 7), 0)


def test_a_record_keeps_its_name_through_all_epochs(tmp_path: Path) -> None:
    keys = hot_keys()
    before = record(keys)
    after = structs.replace(before, epoch=1, changed=rekeyed(before, keys, 4))
    assert after.group_id == before.group_id and after.agreement != before.agreement
    book = ChannelBook(tmp_path / "channels")
    book.put(after)
    assert ChannelBook(tmp_path / "channels").get(before.group_id) == after


def test_a_settled_channel_is_reopened_with_what_it_paid_out() -> None:
    """What each was paid is its new deposit and bond; also where a bond was lost."""
    closed = record(hot_keys(), stage=Stage.CLOSED, payouts=(650, 950))
    assert settled_terms(closed, CURRENCY) == ((600, 900), (50, 50))
    with pytest.raises(Refused, match="only what was paid out"):
        settled_terms(record(hot_keys()), CURRENCY)
    with pytest.raises(Refused, match="cannot post its bond again"):
        settled_terms(structs.replace(closed, payouts=(49, 1_551)), CURRENCY)


def test_a_change_that_is_not_decided_is_shown_with_its_expiry() -> None:
    """`wallet channel show` names an outstanding change, who has not signed it, and until when it holds."""
    view = channel_view(record(hot_keys()), None, None, None, {})
    change = ChangeView(amount=2_500, peer_amount=-100, keys=True, expires_ms=90_000, remaining_ms=30_000, unsigned=())
    console = Console(width=200, record=True, file=None)
    with console.capture() as shown:
        render(console, structs.replace(view, state="changing", epoch=2, change=change), CURRENCY)
    text = " ".join(shown.get().split())
    assert "state changing" in text and "changed 2 times" in text
    assert "we pay in 25.00 WDG, they take out 1.00 WDG, a key is replaced" in text
    assert "waits for the ledger, void in 30 s" in text
