"""Invoices, payments and receipts, as people read them."""

from __future__ import annotations

from typing import assert_never

from rich.console import Console
from rich.table import Table

from layer1.ledger.genesis import Currency
from wallet.amounts import format_money
from wallet.period import format_duration
from wallet.requests import DecodedView, InvoicesView, InvoiceView, PaymentsView, PaymentView, ReceiptView
from wallet.texts import folded, plain, short_address

OfInvoices = InvoiceView | InvoicesView | PaymentView | PaymentsView | DecodedView | ReceiptView
SHOWN = 12
"""Characters of a payment hash in a table: enough to name it."""


def render(console: Console, view: OfInvoices, currency: Currency | None) -> None:
    """Print a view."""
    match view:
        case InvoiceView():
            _invoice(console, view, currency)
        case InvoicesView():
            _invoices(console, view, currency)
        case PaymentView():
            _payment(console, view, currency)
        case PaymentsView():
            _payments(console, view, currency)
        case DecodedView():
            _decoded(console, view, currency)
        case ReceiptView():
            _receipt(console, view)
        case _:
            assert_never(view)


def _invoice(console: Console, view: InvoiceView, currency: Currency | None) -> None:
    what = f", {plain(view.description)}" if view.description else ""
    name, asked = view.payment_hash[:SHOWN], _asked(view.amount, currency)
    text = f"Invoice {name} over {asked}{what}: {_state(view, currency)}"
    console.print(folded(text, console.width), soft_wrap=True, highlight=False, markup=False)
    if view.state in ("open", "held"):
        console.print()
        console.print(view.invoice, soft_wrap=True, highlight=False, markup=False)


def _state(view: InvoiceView, currency: Currency | None) -> str:
    match view.state:
        case "open":
            left = "" if view.remaining_ms is None else f", expires in {format_duration(view.remaining_ms)}"
            here = f", {_money(view.waiting, currency)} are here and wait for the rest" if view.waiting else ""
            return f"open{left}{here}"
        case "held":
            name = view.payment_hash[:SHOWN]
            return (
                f"{_money(view.held, currency)} are held: `wallet invoice settle {name}` takes them, "
                f"`wallet invoice cancel {name}` gives them back"
            )
        case "claiming":
            return f"{_money(view.held, currency)} are being claimed"
        case "paid":
            return f"paid, {_money(view.received, currency)}"
        case other:
            return other


def _invoices(console: Console, view: InvoicesView, currency: Currency | None) -> None:
    if not view.invoices and not view.payments:
        console.print("No invoices yet: `wallet invoice create 2.50` makes one, `wallet invoice pay TEXT` pays one.")
        return
    if view.invoices:
        table = Table("invoice", "amount", "state", "received", "description", box=None, pad_edge=False)
        for each in view.invoices:
            table.add_row(
                each.payment_hash[:SHOWN],
                _asked(each.amount, currency),
                each.state,
                _money(each.received, currency) if each.received else "",
                plain(each.description),
            )
        console.print(table)
    if view.payments:
        if view.invoices:
            console.print()
        table = Table("paid by us", "amount", "state", "fee", "to", "description", box=None, pad_edge=False)
        for payment in view.payments:
            table.add_row(
                payment.payment_hash[:SHOWN],
                _money(payment.amount, currency),
                payment.state,
                _money(payment.fee, currency) if payment.fee else "",
                payment.payee[:SHOWN] + "…",
                plain(payment.description),
            )
        console.print(table)


def _payment(console: Console, view: PaymentView, currency: Currency | None) -> None:
    money, name = _money(view.amount, currency), view.payment_hash[:SHOWN]
    if view.state == "paid":
        earlier = " before: nothing was paid now" if view.repeated else ""
        fee = f", fee {_money(view.fee, currency)} of at most {_money(view.max_fee, currency)}" if view.fee else ""
        verb = "Moved" if view.kind == "circle" else "Paid"
        to = f"channel {view.tries[-1].path[-1].channel[:SHOWN]}" if view.kind == "circle" else view.payee
        console.print(f"{verb} {money}{fee} to {to}{earlier}", soft_wrap=True)
        paths(console, view, currency)
        if view.kind == "invoice":
            console.print(f"The receipt: `wallet receipt show {name}`", soft_wrap=True)
    elif view.state == "failed":
        console.print(folded(f"Failed: {view.message}", console.width), soft_wrap=True, highlight=False, markup=False)
        paths(console, view, currency)
    else:
        text = (
            f"Pending: {money} are locked for {view.payee}, who has not taken them yet. They are paid, or come back "
            f"after ledger clock {view.expiry_ms} ms by themselves. "
        )
        again = "The same command again waits for it, and pays nothing twice."
        look = f"Do not repeat it: `wallet payment show {name}` tells what became of it."
        text += again if view.kind == "invoice" else look
        console.print(folded(text, console.width), soft_wrap=True, highlight=False, markup=False)
        paths(console, view, currency)


def paths(console: Console, view: PaymentView, currency: Currency | None) -> None:
    """Each try hop by hop; nothing of one that went straight to the payee and was paid."""
    if view.state == "paid" and all(len(each.path) == 1 for each in view.tries):
        return
    for number, each in enumerate(view.tries, 1):
        hops = " → ".join(plain(view.labels.get(hop.node, short_address(hop.node))) for hop in each.path)
        fee = f", fee {_money(each.fee, currency)}" if each.fee else ""
        text = f"  {number}. {each.state} {_money(each.amount, currency)}{fee}: {hops}"
        text += f"; {plain(each.message)}" if each.message else ""
        console.print(folded(text, console.width, 5), soft_wrap=True, highlight=False, markup=False)


def _payments(console: Console, view: PaymentsView, currency: Currency | None) -> None:
    if not view.payments:
        console.print("No payments by locks yet: `wallet invoice pay TEXT`, or `wallet pay ADDRESS 2.50`.")
        return
    table = Table("payment", "kind", "amount", "state", "fee", "tries", "to", box=None, pad_edge=False)
    for each in view.payments:
        table.add_row(
            each.payment_hash[:SHOWN],
            each.kind,
            _money(each.amount, currency),
            each.state,
            _money(each.fee, currency) if each.fee else "",
            str(each.attempts),
            plain(view.labels.get(each.payee, short_address(each.payee))),
        )
    console.print(table)


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
    rows += [
        (
            "via",
            f"{hint.node}, channel {hint.channel[:SHOWN]}, fee {_money(hint.base_fee, currency)} + {hint.fee_ppm} ppm",
        )
        for hint in view.hints
    ]
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
