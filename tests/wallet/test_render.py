"""What people read, on a terminal of 80 columns."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from rich.console import Console

from layer1.ledger.genesis import Currency
from wallet.render import render
from wallet.requests import (
    AccountView,
    ChannelsView,
    ChannelView,
    CurrencyView,
    TollView,
    View,
    WaitingView,
    WalletView,
)
from wallet.texts import counted, folded

CURRENCY = Currency("WDG", 2)
ADDRESS = "wedge1" + "q" * 58
CONTACT = f"{ADDRESS}@127.0.0.1:33973"
CHANNEL = ChannelView(
    id="2a" * 32,
    state="disputed",
    peer=ADDRESS,
    endpoint="127.0.0.1:33973",
    connected=False,
    can_send=1_234_567,
    can_receive=7_654_321,
    reserved=1_000,
    in_dispute=100_000_000,
    pending=0,
    deposit=20_000,
    peer_deposit=10_000,
    bond=1_000,
    peer_bond=1_000,
    version=4,
    challenge_period_ms=86_400_000,
    deadline_ms=90_000_000,
    remaining_ms=3_600_000,
    paid_out=None,
    peer_paid_out=None,
    forfeited=False,
    peer_forfeited=False,
    reason=None,
    advice="one sentence after another, until the line is longer than what a terminal shows of it",
    watching=None,
)


def shown(view: WalletView | ChannelView | ChannelsView) -> list[str]:
    console = Console(width=80, force_terminal=False, color_system=None)
    with console.capture() as captured:
        render(console, view, CURRENCY)
    return captured.get().splitlines()


def accounts(view: View) -> WalletView:
    account = AccountView(address=ADDRESS, balance=None)
    return WalletView(address=ADDRESS, contact=CONTACT, spending=account, savings=account, serving=True)


def test_what_is_copied_stays_in_one_piece() -> None:
    assert any(line.endswith(CONTACT) for line in shown(accounts(CHANNEL)))
    lines = shown(CHANNEL)
    assert any(line.endswith(CHANNEL.id) for line in lines)
    assert any(line.endswith(CONTACT) for line in lines)


@pytest.mark.parametrize(("final", "text"), [(False, "version 5"), (True, "the end of the channel")])
def test_a_stuck_channel_names_who_has_not_signed(final: bool, text: str) -> None:
    """Somebody who is only not connected is no news: a wallet that looks makes no link."""
    stuck = WaitingView(version=5, unsigned=(ADDRESS,), absent=(), final=final)
    lines = shown(msgspec.structs.replace(CHANNEL, waiting=stuck))
    assert any("waits for" in line and ADDRESS[:12] in line and line.endswith(f"to sign {text}") for line in lines)
    away = WaitingView(version=5, unsigned=(), absent=(ADDRESS,), final=False)
    for quiet in (None, away):
        assert not any("waits" in line for line in shown(msgspec.structs.replace(CHANNEL, waiting=quiet)))


def test_nothing_stands_under_an_account_of_unknown_balance() -> None:
    assert all(line.strip() for line in shown(accounts(CHANNEL)))


@pytest.mark.parametrize("state", ["open", "disputed", "closed"])
def test_the_list_of_channels_fits_into_80_columns(state: str) -> None:
    channel = msgspec.structs.replace(CHANNEL, state=state)
    currency = CurrencyView(symbol="WDG", decimals=2)
    lines = shown(ChannelsView(channels=(channel, channel), clock_ms=0, currency=currency))
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for part in ("in dispute", CHANNEL.id[:12], "12345.67", "1000000.00", state, "settles in 1 h"):
        assert part in text
    assert "…" not in text.replace("wedge1qqqqqq…qqqq", "")


TOLL = TollView(forwards=True, base=1, per_million=100, least=1, most=None)
NEXT = "the ledger settles it in 1 h, or as soon as both have claimed (1 of them has)"
ENDS: list[tuple[str, dict[str, Any], list[str], list[str]]] = [
    ("open", {"state": "open"}, ["forwards", "can send"], ["under way", "next"]),
    ("locks", {"state": "open", "in_locks": 700, "locked_by_us": 200}, ["under way 7.00", "of it ours 2.00"], []),
    ("wedged", {"state": "disputed", "next": NEXT}, ["in dispute", f"next {NEXT}"], ["forwards", "can send"]),
    ("wedged with locks", {"state": "disputed", "in_locks": 700}, ["in dispute", "under way 7.00"], ["forwards"]),
    (
        "settled with locks",
        {"state": "closed", "in_locks": 700, "paid_out": 9, "peer_paid_out": 1},
        ["under way 7.00"],
        [],
    ),
    ("together", {"state": "closed", "reason": "final"}, ["note closed together"], ["forwards", "in dispute", "next"]),
    (
        "a witness",
        {"state": "closed", "reason": "claims", "witness": CONTACT},
        ["as two of the three have claimed"],
        ["both"],
    ),
    ("a lie", {"state": "closed", "reason": "claims", "peer_forfeited": True}, ["the peer's bond forfeited"], []),
]


@pytest.mark.parametrize(("changed", "there", "absent"), [row[1:] for row in ENDS], ids=[row[0] for row in ENDS])
def test_each_end_of_a_channel_says_what_it_is_and_nothing_beside(
    changed: dict[str, Any], there: list[str], absent: list[str]
) -> None:
    """A channel in dispute forwards nothing, and one that is settled has what is under way yet to pay."""
    view = msgspec.structs.replace(CHANNEL, toll=TOLL, advice=None, **changed)
    text = " ".join(" ".join(shown(view)).split())
    assert all(each in text for each in there), text
    assert not any(f"{each} " in text for each in absent), text


def test_text_is_broken_between_words_only() -> None:
    assert folded("one two three", 8) == "one two\nthree"
    assert folded("  one two three", 8) == "  one\n  two\n  three"
    assert folded("one two three", 10, 3) == "one two\n   three"
    assert folded("x" * 20, 8) == "x" * 20
    assert folded("short\n\nlines", 8) == "short\n\nlines"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 channels"), (1, "1 channel"), (2, "2 channels"), (1_000, "1,000 channels")]
)
def test_one_is_no_plural(number: int, text: str) -> None:
    assert counted(number, "channel") == text
