"""Views as people read them: tables and sentences. Programs use ``--json``."""

from __future__ import annotations

import datetime
from typing import assert_never

from rich.console import Console
from rich.table import Table
from rich.text import Text

from layer1.ledger.genesis import Currency
from wallet import render_api, render_books, render_invoices, render_routes
from wallet.amounts import format_amount, format_money
from wallet.period import format_duration
from wallet.requests import (
    BooksView,
    ChangeView,
    ChannelsView,
    ChannelView,
    EntryView,
    GuardView,
    HistoryView,
    PaidView,
    PromotedView,
    PrunedView,
    RestoredView,
    SentView,
    StandbyView,
    WalletView,
    WatchtowersView,
    WatchtowerView,
)
from wallet.route_requests import RouteView
from wallet.texts import counted, folded, plain

OfLedger = (
    BooksView
    | ChannelsView
    | ChannelView
    | HistoryView
    | PaidView
    | SentView
    | RestoredView
    | WatchtowersView
    | PrunedView
    | StandbyView
    | PromotedView
)
Shown = WalletView | RouteView | render_api.Kept | render_invoices.OfInvoices | OfLedger


def render(console: Console, view: Shown, currency: Currency | None) -> None:
    """Print a view; only a wallet without a ledger has no currency."""
    if isinstance(view, WalletView):
        _wallet(console, view, currency)
    elif isinstance(view, render_api.Kept):
        render_api.render(console, view, currency)
    elif isinstance(view, render_invoices.OfInvoices):
        render_invoices.render(console, view, currency)
    elif isinstance(view, RouteView):
        render_routes.render(console, view, currency)
    else:
        _render(console, view, currency)


def _render(console: Console, view: OfLedger, currency: Currency | None) -> None:
    assert currency is not None, "every other view takes a ledger"
    match view:
        case ChannelsView():
            _channels(console, view, currency)
        case ChannelView():
            _channel(console, view, currency)
        case BooksView():
            render_books.render(console, view, currency)
        case HistoryView():
            _history(console, view.entries, currency)
        case PrunedView():
            when = datetime.datetime.fromtimestamp(view.before_ms / 1000).astimezone().strftime("%Y-%m-%d %H:%M:%S")
            console.print(f"Deleted the payments of {view.versions:,} versions, all before {when}.")
        case WatchtowersView():
            _watchtowers(console, view, currency)
        case PaidView():
            _paid(console, view, currency)
        case RestoredView():
            _restored(console, view, currency)
        case SentView():
            money = format_money(view.amount, currency)
            console.print(f"Sent {money} to {view.recipient}", soft_wrap=True)
            left = format_money(view.balance, currency) if view.balance is not None else "a balance that is not known"
            console.print(f"transaction {view.transaction_id}, final; {view.source} now has {left}", soft_wrap=True)
        case StandbyView():
            _print_rows(console, _standby_rows(view))
        case PromotedView():
            console.print(f"This home is the head now, in term {view.term}.")
            contact = view.contact or "start it with `wallet serve`, which says it"
            console.print(f"The contact to give to others: {contact}", soft_wrap=True)
        case _:
            assert_never(view)


def _standby_rows(view: StandbyView) -> list[tuple[str, str]]:
    if view.role == "single":
        return [("role", "single: no standby; `wallet serve --standby CONTACT` takes one")]
    paired = {
        ("head", True): "yes: nothing leaves without the standby",
        ("head", False): "no: this home goes on alone",
        ("standby", True): "yes: it may be promoted",
        ("standby", False): "no: it has not got everything yet, and may not be promoted",
    }
    rows = [
        ("role", f"{view.role}, term {view.term}"),
        ("name", view.name or ""),
        ("paired", paired[view.role, view.paired]),
        ("in touch", "yes" if view.in_touch else "no"),
    ]
    rows += [("standby at" if view.role == "head" else "listens at", view.endpoint)] if view.endpoint else []
    rows += [("waiting", f"{view.waiting} turns")] if view.waiting else []
    rows += [("trouble", view.trouble)] if view.trouble else []
    return rows


def _wallet(console: Console, view: WalletView, currency: Currency | None) -> None:
    rows = [("contact", view.contact or "none yet: it is known once `wallet serve` has run")]
    for name, account in (("spending", view.spending), ("savings", view.savings)):
        money = format_money(account.balance, currency) if account.balance is not None and currency is not None else ""
        rows += [(name, account.address), *([("", money)] if money else [])]
    if view.chain_id is None:
        rows.append(("ledger", "none yet: `wallet connect --ledger URL`"))
    else:
        rows.append(("ledger", f"chain {view.chain_id}"))
        rows.append(("proven by", f"block {view.height}, {format_duration(view.clock_ms or 0)} after the genesis"))
    rows.append(("served", "yes" if view.serving else "no"))
    _print_rows(console, rows)


def _print_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    """Names and values. What people copy is never cut and never broken by us, however narrow the terminal is."""
    indent = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        text = name.ljust(indent) + folded(plain(value), console.width, indent)
        console.print(text, soft_wrap=True, markup=False, highlight=False)


def _channels(console: Console, view: ChannelsView, currency: Currency) -> None:
    if not view.channels:
        console.print("No channels yet: `wallet channel open CONTACT --deposit AMOUNT` makes one.")
        return
    rows = [_list_row(channel, currency) for channel in view.channels]
    widths = [max(map(len, column)) for column in zip(LIST_HEAD, *rows, strict=True)]
    console.print(_list_line(LIST_HEAD, widths), style="bold", soft_wrap=True, highlight=False)
    for channel, row in zip(view.channels, rows, strict=True):
        told = "; ".join(part for part in (_state(channel), plain(_list_note(channel, currency))) if part)
        text = folded(told, console.width, LIST_INDENT)
        console.print(_list_line(row, widths), soft_wrap=True, markup=False, highlight=False)
        console.print(" " * LIST_INDENT + text, soft_wrap=True, markup=False, highlight=False)
    console.print(f"amounts in {currency.symbol}")
    if view.clock_ms is None:
        console.print("The ledger could not be asked: what it knows may be newer.")


def _guard(view: GuardView) -> str:
    held = "holds nothing yet" if view.version is None else f"holds version {view.version}"
    until = "" if view.remaining_ms is None else f", promised for {format_duration(view.remaining_ms)}"
    rely = ", relied on" if view.rely else ""
    return f"{_short(view.watchtower)} {held}{until}{rely}{'; ' + view.trouble if view.trouble else ''}"


def _watchtowers(console: Console, view: WatchtowersView, currency: Currency) -> None:
    if not view.watchtowers:
        console.print("No watchtowers: `wallet watchtower add CONTACT` entrusts this wallet's channels to one.")
    for each in view.watchtowers:
        _print_rows(console, _watchtower(each, currency))


def _watchtower(view: WatchtowerView, currency: Currency) -> list[tuple[str, str]]:
    rows = [
        ("watchtower", view.contact),
        ("holds", f"{counted(view.channels, 'channel')}{', not all of them up to date' if view.behind else ''}"),
        ("bounty", f"{format_money(view.bounty, currency)}, of what we get of a liar's bond"),
        ("relied on", "yes: committed is what it has receipted" if view.rely else "no: it may lag behind"),
    ]
    if view.remaining_ms is not None:
        left = format_duration(view.remaining_ms)
        rows.append(("promised for", f"{left} from now; this wallet renews it while it runs"))
    if view.trouble is not None:
        rows.append(("trouble", view.trouble))
    return rows


def _restored(console: Console, view: RestoredView, currency: Currency) -> None:
    """What was found, and what became of it."""
    if not view.channels:
        console.print("The ledger knows no channel of these keys that is not here already.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("channel", "peer", "version", "ours", "theirs", "what became of it"):
        table.add_column(name, no_wrap=name != "what became of it")
    for each in view.channels:
        known = each.balance is not None and each.peer_balance is not None
        money = (format_amount(each.balance or 0, currency), format_amount(each.peer_balance or 0, currency))
        table.add_row(
            each.id[:12], _short(each.peer), str(each.version), *(money if known else ("?", "?")), _fate(each)
        )
    console.print(table)
    console.print(f"amounts in {currency.symbol}")
    if any(each.state == "stopped" for each in view.channels):
        console.print(
            "A channel that was recovered pays no more: `wallet channel close ID` gives you its money at once, "
            "`wallet channel resume ID` lets it go on. One whose peer is away waits for it: keep `wallet serve` "
            "running. If it never comes, `wallet channel close ID --force` asks it through the ledger, which waits "
            "twice the challenge period for its answer."
        )


def _fate(view: ChannelView) -> str:
    if view.state == "stopped":
        return "recovered from the peer" if view.recovered else "not reached yet: the peer has not answered"
    return {"closed": "closed before", "disputed": "in dispute on the ledger"}.get(view.state, view.state)


LIST_HEAD = ("channel", "peer", "can send", "can receive", "reserved", "in dispute")
LIST_INDENT = 14
"""Behind the id stand state and note, on a line of their own: all of it fits into 80 columns."""


def _list_row(view: ChannelView, currency: Currency) -> tuple[str, ...]:
    units = (view.can_send, view.can_receive, view.reserved, view.in_dispute)
    return (view.id[:12], _short(view.peer), *(format_amount(each, currency) for each in units))


def _list_line(row: tuple[str, ...], widths: list[int]) -> str:
    padded = zip(row, widths, strict=True)
    return "  ".join(cell.ljust(width) if i < 2 else cell.rjust(width) for i, (cell, width) in enumerate(padded))


def _channel(console: Console, view: ChannelView, currency: Currency) -> None:
    rows = [
        ("channel", view.id),
        ("peer", f"{view.peer}{'@' + view.endpoint if view.endpoint else ''}"),
        ("state", _state(view)),
        *((name, format_money(units, currency)) for name, units in _amounts(view).items()),
        ("deposits", f"{_pair(view.deposit, view.peer_deposit, currency)} (ours, theirs)"),
        ("bonds", f"{_pair(view.bond, view.peer_bond, currency)} (ours, theirs)"),
        ("version", str(view.version)),
        ("challenge period", _period(view)),
    ]
    if view.toll is not None and view.state in ("open", "stopped", "changing"):
        rows.append(("forwards", render_routes.toll_text(view.toll, currency)))
    if view.witness is not None:
        rows.append(("witness", view.witness))
    if view.claimed:
        rows.append(("claimed by", ", ".join(map(_short, view.claimed))))
    if view.epoch:
        rows.append(("changed", f"{view.epoch} times; versions count from 0 in each epoch"))
    if view.change is not None:
        rows.append(("change", _change(view.change, currency)))
    if view.next is not None:
        rows.append(("next", view.next))
    if view.paid_out is not None and view.peer_paid_out is not None:
        paid = _pair(view.paid_out, view.peer_paid_out, currency)
        rows.append(("paid out", f"{paid} (ours, theirs), proven by the ledger"))
    for name, lost in (("our bond", view.forfeited), ("the peer's bond", view.peer_forfeited)):
        if lost:
            rows.append((name, "forfeited: for a provable lie, or for silence when the other might have lost data"))
    if view.waiting is not None and view.waiting.unsigned:
        what = "the end of the channel" if view.waiting.final else f"version {view.waiting.version}"
        rows.append(("waits for", f"{', '.join(map(_short, view.waiting.unsigned))} to sign {what}"))
    rows += [("watchtower", _guard(guard)) for guard in view.watchtowers]
    if view.waiting is not None and view.waiting.unacknowledged:
        names = ", ".join(map(_short, view.waiting.unacknowledged))
        rows.append(("waits for", f"{names} to ACK version {view.waiting.version}"))
    if note := _note(view):
        rows.append(("note", note))
    _print_rows(console, rows)


def _period(view: ChannelView) -> str:
    """What the witness makes of it."""
    if view.witness is None:
        return format_duration(view.challenge_period_ms)
    return "none is needed: with its witness a dispute ends by the claims of two of the three"


def _change(change: ChangeView, currency: Currency) -> str:
    """What is signed and not decided, and until when."""
    parts = [
        f"{whose} {'pay in' if units > 0 else 'take out'} {format_money(abs(units), currency)}"
        for whose, units in (("we", change.amount), ("they", change.peer_amount))
        if units
    ]
    parts += ["a key is replaced"] if change.keys else []
    left = f" in {format_duration(change.remaining_ms)}" if change.remaining_ms is not None else ""
    waits = "the peer to sign" if change.unsigned else "the ledger"
    return f"{', '.join(parts) or 'other terms'}; waits for {waits}, void{left or ' soon'}"


def _amounts(view: ChannelView) -> dict[str, int]:
    """Those that mean something in the channel's state."""
    locked = {"under way": view.in_locks, "of it ours": view.locked_by_us} if view.in_locks else {}
    match view.state:
        case "open" | "stopped" | "changing" | "closing":
            amounts = {"can send": view.can_send, "can receive": view.can_receive, "reserved": view.reserved}
            return amounts | ({"pending": view.pending} if view.pending else {}) | locked
        case "disputed":
            return {"in dispute": view.in_dispute} | locked
        case "opening" | "closed" | "failed":
            return locked


def _paid(console: Console, view: PaidView, currency: Currency) -> None:
    total = format_money(view.committed * view.amount, currency)
    if view.count == 1 and view.committed:
        fee = view.payment.fee if view.payment is not None else 0
        cost = f", fee {format_money(fee, currency)}" if fee else ""
        console.print(f"Paid {total}{cost} to {view.peer}", soft_wrap=True)
    else:
        rate = view.committed / view.seconds if view.seconds > 0 else 0.0
        console.print(f"Paid {view.committed} of {view.count} times, {total} in all, {rate:.0f} per second")
    if view.payment is not None:
        render_invoices.paths(console, view.payment, currency)
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
    note = _note(view)
    if view.remaining_ms is None:
        return note
    return f"settles in {format_duration(view.remaining_ms)}" + (f"; {note}" if note else "")


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
        if view.witness is not None and reason == "claims":
            return "settled by the ledger, as two of the three have claimed"
        return REASONS.get(reason, f"refused by the ledger: {reason}") if reason else ""
    return view.watching or ""


def _quoted(text: str) -> Text:
    """What a peer may have written: no markup, and nothing that a terminal obeys."""
    return Text(plain(text))


def _pair(ours: int, theirs: int, currency: Currency) -> str:
    return f"{format_amount(ours, currency)} and {format_money(theirs, currency)}"


def _short(address: str) -> str:
    return f"{address[:12]}…{address[-4:]}"
