"""Payments as people read them, in a terminal."""

from __future__ import annotations

from msgspec import structs
from rich.console import Console

from layer1.crypto import format_address
from layer1.ledger.genesis import Currency
from tests.wallet.api.conftest import CURRENCY
from tests.wallet.invoices.samples import signed
from tests.wallet.paying.samples import PAYEE, PAYMENT, PREIMAGE, US, attempt, channel, node
from wallet.paying.records import Fate, Kind, Payment
from wallet.paying.views import payment_view
from wallet.render import render
from wallet.requests import PaymentsView, PaymentView

FAILED = attempt(600, 3, "hub", fate=Fate.FAILED, code="busy", message="hop 1, hub, did not forward", place=0)
PARTS = (FAILED, attempt(400, 2, "well", fate=Fate.PAID), attempt(600, 3, "well", fate=Fate.PAID))
PAID = structs.replace(PAYMENT, attempts=PARTS, preimage=PREIMAGE, invoice=signed())


def shown(view: PaymentView | PaymentsView) -> str:
    console = Console(width=120, no_color=True)
    with console.capture() as captured:
        render(console, view, Currency("WDG", 2))
    return captured.get()


def view_of(payment: Payment = PAID) -> PaymentView:
    return payment_view(payment, US)


def test_each_try_is_shown_hop_by_hop_with_names_that_its_owner_gave() -> None:
    labels = {format_address(node("hub")): "the \x1b[31mhub", format_address(PAYEE): "Carol"}
    text = shown(structs.replace(view_of(), labels=labels))
    assert "Paid 10.00 WDG, fee 0.05 WDG of at most 0.10 WDG" in text
    assert "1. failed 6.00 WDG, fee 0.03 WDG: the \ufffd[31mhub → Carol; hop 1, hub, did not forward" in text
    assert "2. paid 4.00 WDG, fee 0.02 WDG: wedge1" in text and "wallet receipt show" in text
    assert "\x1b" not in text


def test_what_is_pending_says_whether_to_repeat_it() -> None:
    waiting = structs.replace(PAID, attempts=(attempt(1_000),), preimage=b"")
    assert "The same command again" in shown(view_of(waiting)).replace("\n", " ")
    gift = structs.replace(waiting, kind=Kind.SPONTANEOUS, invoice=None)
    assert "Do not repeat it" in shown(view_of(gift)).replace("\n", " ")


def test_a_failure_and_a_circle_and_a_list() -> None:
    failed = structs.replace(PAID, attempts=(FAILED,), preimage=b"")
    assert "Failed: hop 1, hub, did not forward" in shown(view_of(failed))
    circle = structs.replace(PAID, kind=Kind.CIRCLE, invoice=None, last_channel=channel("well-payee"))
    assert f"Moved 10.00 WDG, fee 0.05 WDG of at most 0.10 WDG to channel {channel('well-payee').hex()[:12]}" in shown(
        view_of(circle)
    )
    listed = shown(PaymentsView(payments=(view_of(), view_of(failed)), currency=CURRENCY))
    assert listed.count("invoice") == 2 and "failed" in listed
    assert "No payments" in shown(PaymentsView(payments=(), currency=CURRENCY))
