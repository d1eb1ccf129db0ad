"""Routes as people read them: hop by hop."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from layer1.ledger.genesis import Currency
from wallet.amounts import format_amount, format_money
from wallet.period import format_duration
from wallet.requests import TollView
from wallet.route_requests import RoutePartView, RouteView
from wallet.texts import counted, folded


def render(console: Console, view: RouteView, currency: Currency | None) -> None:
    """Print what a payment would cost and how likely it works, then each part's way."""
    assert currency is not None, "routes take a ledger"
    fee = "no fee" if not view.fee else f"a fee of {format_money(view.fee, currency)}"
    parts = "" if len(view.parts) == 1 else f", in {len(view.parts)} parts"
    text = (
        f"{format_money(view.amount, currency)} to {_short(view.payee)} for {fee}{parts}; works at the first try with "
        f"{_percent(view.chance)}. Its locks would be good for {format_duration(view.remaining_ms)}."
    )
    console.print(folded(text, console.width), soft_wrap=True, highlight=False, markup=False)
    for number, part in enumerate(view.parts, start=1):
        if len(view.parts) > 1:
            what = f"Part {number}: {format_money(part.amount, currency)}, {_percent(part.chance)}"
            console.print(f"\n{what}", highlight=False, markup=False)
        console.print(_table(part, view.payee, currency))
    known = counted(view.channels, "channel")
    console.print(f"Found among {known} that this wallet knows. Nothing was paid.", highlight=False, markup=False)


def _table(part: RoutePartView, payee: str, currency: Currency) -> Table:
    table = Table("hop", "to", "by channel", box=None, pad_edge=False, header_style="bold")
    for name in ("amount", "fee", "chance"):
        table.add_column(name, justify="right")
    for number, leg in enumerate(part.legs, start=1):
        whom = f"{_short(leg.receiver)}{' (payee)' if leg.receiver == payee else ''}"
        sums = (format_amount(leg.amount, currency), format_amount(leg.fee, currency), _percent(leg.chance))
        table.add_row(str(number), whom, leg.channel[:12], *sums)
    return table


def toll_text(toll: TollView, currency: Currency) -> str:
    """On which terms payments of others pass."""
    if not toll.forwards:
        return "nothing: `wallet channel limits CHANNEL --enable` lets payments of others pass"
    most = "all that fits" if toll.most is None else format_money(toll.most, currency)
    fee = f"{format_money(toll.base, currency)} and {toll.per_million / 10_000:.6g}% of the amount"
    return f"from {format_money(toll.least, currency)} to {most} at a time, for {fee}"


def _percent(chance: float) -> str:
    """Never quite certain, and never quite impossible."""
    return f"{min(max(chance, 0.001), 0.999):.1%}"


def _short(address: str) -> str:
    return f"{address[:12]}…"
