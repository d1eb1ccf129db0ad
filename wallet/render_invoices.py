"""Invoices and receipts, as people read them."""

from __future__ import annotations

from typing import assert_never

from rich.console import Console

from layer1.ledger.genesis import Currency
from wallet.amounts import format_money
from wallet.period import format_duration
from wallet.requests import DecodedView, ReceiptView
from wallet.texts import folded, plain

OfInvoices = DecodedView | ReceiptView
SHOWN = 12
"""Characters of a payment hash in a table: enough to name it."""


def render(console: Console, view: OfInvoices, currency: Currency | None) -> None:
    """Print a view."""
    match view:
        case DecodedView():
            _decoded(console, view, currency)
        case ReceiptView():
            _receipt(console, view)
        case _:
            assert_never(view)


def _decoded(console: Console, view: DecodedView, currency: Currency | None) -> None:
    rows = [
        ("amount", _asked(view.amount, currency)),
        ("description", plain(view.description)),
        ("payee", view.payee),
        ("hash", view.payment_hash),
        ("chain", view.chain_id),
        ("made at", f"ledger clock {view.created_ms} ms"),
        (
            "expires",
            f"at ledger clock {view.expires_ms} ms, {format_duration(view.expires_ms - view.created_ms)} later",
        ),
        ("lock", f"good for {format_duration(view.lock_ms)} at least"),
    ]
    rows += [("via", f"{hint.node}, channel {hint.channel[:SHOWN]}") for hint in view.hints]
    rows += [("features", ", ".join(view.features))] if view.features else []
    for name, text in rows:
        console.print(f"{name:<12}{text}", soft_wrap=True, highlight=False, markup=False)


def _receipt(console: Console, view: ReceiptView) -> None:
    for title, sentences in (("Proven:", view.proven), ("Not proven:", view.not_proven)):
        console.print(title)
        for sentence in sentences:
            console.print(
                folded(f"  - {plain(sentence)}", console.width), soft_wrap=True, highlight=False, markup=False
            )


def _asked(units: int | None, currency: Currency | None) -> str:
    return "any amount" if units is None else _money(units, currency)


def _money(units: int, currency: Currency | None) -> str:
    return f"{units} units" if currency is None else format_money(units, currency)
