"""The books as people read them."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from layer1.ledger.genesis import Currency
from wallet.amounts import format_amount
from wallet.requests import BooksView
from wallet.texts import plain


def render(console: Console, view: BooksView, currency: Currency) -> None:
    """Print the balance sheet, the channels, and what does not add up."""
    sheet = Table(box=None, pad_edge=False, show_header=False)
    sheet.add_column()
    sheet.add_column(justify="right")
    rows = {
        "spending account": view.spending,
        "savings account": view.savings,
        "in channels": view.in_channels,
        "bonds": view.bonds,
    }
    for name, units in rows.items():
        sheet.add_row(name, format_amount(units, currency))
    sheet.add_row(f"total, {currency.symbol}", format_amount(view.total, currency), style="bold")
    if view.in_locks:
        sheet.add_row("in locks, not counted", format_amount(view.in_locks, currency))
        sheet.add_row("  of them locked by us", format_amount(view.locked_by_us, currency))
    console.print(sheet)
    _channels(console, view, currency)
    _fees(console, view, currency)
    if view.adds_up:
        console.print(f"It adds up, to the unit: state, ledger (block {view.height:,}) and history agree.")
        return
    console.print("It does NOT add up:", style="bold")
    for difference in view.differences:
        console.print(f"  {plain(difference)}", soft_wrap=True)


def _fees(console: Console, view: BooksView, currency: Currency) -> None:
    """What forwarding brought and what payments cost, by the channels that had a part in it."""
    if not (view.fees_earned or view.fees_paid or view.rebalancing):
        return
    table = Table("fees", box=None, pad_edge=False, header_style="bold")
    for name in ("earned, in", "earned, out", "paid", "rebalancing"):
        table.add_column(name, justify="right")
    for channel in view.channels:
        sums = (channel.earned_in, channel.earned_out, channel.fees_paid, channel.rebalancing)
        if any(sums):
            table.add_row(channel.id[:12], *(format_amount(units, currency) for units in sums))
    console.print(table)
    net = view.fees_earned - view.fees_paid - view.rebalancing
    console.print(
        f"Fees earned less paid: {format_amount(net, currency)} {currency.symbol}; they are in the sums above."
    )


def _channels(console: Console, view: BooksView, currency: Currency) -> None:
    if not view.channels:
        return
    table = Table("channel", box=None, pad_edge=False, header_style="bold")
    for name in ("ours", "bond", "received", "paid", "net", "put in", "taken out"):
        table.add_column(name, justify="right")
    for channel in view.channels:
        net = channel.received - channel.paid + channel.forfeits
        sums = (channel.balance, channel.bond, channel.received, channel.paid, net, channel.put_in, channel.taken_out)
        table.add_row(channel.id[:12], *(format_amount(units, currency) for units in sums))
    console.print(table)
