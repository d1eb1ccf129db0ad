"""Views as people read them: tables and sentences. Programs use ``--json``."""

from __future__ import annotations

import datetime
from typing import assert_never

from rich.console import Console
from rich.table import Table
from rich.text import Text

from layer1.ledger.genesis import Currency
from wallet.amounts import format_amount, format_money
from wallet.period import format_duration
from wallet.requests import (
    ChannelsView,
    ChannelView,
    EntryView,
    HistoryView,
    PaidView,
    SentView,
    WalletView,
)
from wallet.texts import plain

Shown = WalletView | ChannelsView | ChannelView | HistoryView | PaidView | SentView


def render(console: Console, view: Shown, currency: Currency | None) -> None:
    """Print a view; only a wallet without a ledger has no currency."""
    if isinstance(view, WalletView):
        _wallet(console, view, currency)
        return
    assert currency is not None, "every other view takes a ledger"
    match view:
        case ChannelsView():
            _channels(console, view, currency)
        case ChannelView():
            _channel(console, view, currency)
        case HistoryView():
            _history(console, view.entries, currency)
        case PaidView():
            _paid(console, view, currency)
        case SentView():
            money = format_money(view.amount, currency)
            console.print(f"Sent {money} to {view.recipient}", soft_wrap=True)
            left = format_money(view.balance, currency)
            console.print(f"transaction {view.transaction_id}, final; {view.source} now has {left}", soft_wrap=True)
        case _:
            assert_never(view)


def _wallet(console: Console, view: WalletView, currency: Currency | None) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("contact", view.contact or "none yet: it is known once `wallet serve` has run")
    for name, account in (("spending", view.spending), ("savings", view.savings)):
        money = format_money(account.balance, currency) if account.balance is not None and currency is not None else ""
        table.add_row(name, account.address)
        table.add_row("", money)
    if view.chain_id is None:
        table.add_row("ledger", "none yet: `wallet connect --ledger URL`")
    else:
        table.add_row("ledger", f"chain {view.chain_id}")
        table.add_row("proven by", f"block {view.height}, ledger clock {view.clock_ms} ms")
    table.add_row("served", "yes" if view.serving else "no")
    console.print(table)


def _channels(console: Console, view: ChannelsView, currency: Currency) -> None:
    if not view.channels:
        console.print("No channels yet: `wallet channel open CONTACT --deposit AMOUNT` makes one.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("channel", "peer", "state"):
        table.add_column(name, no_wrap=True)
    for name in ("can send", "can receive", "reserved", "in dispute"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("note")
    for channel in view.channels:
        units = (channel.can_send, channel.can_receive, channel.reserved, channel.in_dispute)
        amounts = [format_amount(each, currency) for each in units]
        if channel.remaining_ms is not None:
            amounts[-1] += f" ({format_duration(channel.remaining_ms)})"
        table.add_row(
            channel.id[:12], _short(channel.peer), _state(channel), *amounts, _quoted(_list_note(channel, currency))
        )
    console.print(table)
    console.print(f"amounts in {currency.symbol}")
    if view.clock_ms is None:
        console.print("The ledger could not be asked: what it knows may be newer.")


def _channel(console: Console, view: ChannelView, currency: Currency) -> None:
    table = Table.grid(padding=(0, 2))
    table.add_row("channel", view.id)
    table.add_row("peer", f"{view.peer}{'@' + view.endpoint if view.endpoint else ''}")
    table.add_row("state", _state(view))
    for name, units in _amounts(view).items():
        table.add_row(name, format_money(units, currency))
    table.add_row("deposits", f"{_pair(view.deposit, view.peer_deposit, currency)} (ours, theirs)")
    table.add_row("bonds", f"{_pair(view.bond, view.peer_bond, currency)} (ours, theirs)")
    table.add_row("version", str(view.version))
    table.add_row("challenge period", format_duration(view.challenge_period_ms))
    if view.remaining_ms is not None:
        table.add_row("settles in", f"{format_duration(view.remaining_ms)}, at ledger clock {view.deadline_ms} ms")
    if view.paid_out is not None and view.peer_paid_out is not None:
        paid = _pair(view.paid_out, view.peer_paid_out, currency)
        table.add_row("paid out", f"{paid} (ours, theirs), proven by the ledger")
    for name, lost in (("our bond", view.forfeited), ("the peer's bond", view.peer_forfeited)):
        if lost:
            table.add_row(name, "forfeited for a provable lie")
    if note := _note(view):
        table.add_row("note", _quoted(note))
    console.print(table)


def _amounts(view: ChannelView) -> dict[str, int]:
    """Those that mean something in the channel's state."""
    match view.state:
        case "open" | "closing":
            amounts = {"can send": view.can_send, "can receive": view.can_receive, "reserved": view.reserved}
            return amounts | ({"pending": view.pending} if view.pending else {})
        case "disputed":
            return {"in dispute": view.in_dispute}
        case "opening" | "closed" | "failed":
            return {}


def _paid(console: Console, view: PaidView, currency: Currency) -> None:
    total = format_money(view.committed * view.amount, currency)
    if view.count == 1 and view.committed:
        console.print(f"Paid {total} to {view.peer}", soft_wrap=True)
    else:
        rate = view.committed / view.seconds if view.seconds > 0 else 0.0
        console.print(f"Paid {view.committed} of {view.count} times, {total} in all, {rate:.0f} per second")
    if view.pending:
        console.print(
            f"{view.pending} are pending: the peer has them, or may get them still. Do not repeat them; "
            "`wallet history` and `wallet channel show` tell what became of them"
        )
    if view.refusal:
        console.print(_quoted(f"{view.refused} were refused and are not paid: {view.refusal}"))
    console.print(
        f"can send {format_money(view.can_send, currency)}, can receive {format_money(view.can_receive, currency)}"
    )


def _history(console: Console, entries: tuple[EntryView, ...], currency: Currency) -> None:
    if not entries:
        console.print("Nothing has happened yet.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("when", "what"):
        table.add_column(name, no_wrap=True)
    table.add_column(currency.symbol, justify="right", no_wrap=True)
    for name in ("channel", "peer", "memo"):
        table.add_column(name)
    for entry in entries:
        when = datetime.datetime.fromtimestamp(entry.time_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        amount = format_amount(entry.amount, currency) if entry.amount else ""
        peer = _short(entry.peer) if entry.peer else ""
        table.add_row(when, entry.kind, amount, (entry.channel or "")[:12], peer, _quoted(entry.memo or ""))
    console.print(table)


def _list_note(view: ChannelView, currency: Currency) -> str:
    if view.state == "closed" and view.paid_out is not None:
        lost = ", the peer's bond is ours" if view.peer_forfeited else ", our bond is lost" if view.forfeited else ""
        return f"paid out {format_amount(view.paid_out, currency)}{lost}"
    if view.pending:
        return f"{format_amount(view.pending, currency)} pending"
    return _note(view)


def _state(view: ChannelView) -> str:
    return f"{view.state}, connected" if view.connected and view.state == "open" else view.state


REASONS = {
    "final": "closed together",
    "claims": "settled by the ledger, as both have said their last",
    "deadline": "settled by the ledger at the deadline",
    "expired": "the ledger did not take it in time: nothing is locked",
}


def _note(view: ChannelView) -> str:
    if view.advice:
        return view.advice
    if view.state in ("closed", "failed"):
        reason = view.reason or ""
        return REASONS.get(reason, f"refused by the ledger: {reason}")
    return view.watching or ""


def _quoted(text: str) -> Text:
    """What a peer may have written: no markup, and nothing that a terminal obeys."""
    return Text(plain(text))


def _pair(ours: int, theirs: int, currency: Currency) -> str:
    return f"{format_amount(ours, currency)} and {format_money(theirs, currency)}"


def _short(address: str) -> str:
    return f"{address[:12]}…{address[-4:]}"
