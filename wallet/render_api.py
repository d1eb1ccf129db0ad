"""What the API keeps, as people read it."""

from __future__ import annotations

from typing import assert_never

from rich.console import Console
from rich.table import Table

from layer1.ledger.genesis import Currency
from wallet.amounts import format_money
from wallet.period import format_duration
from wallet.requests import LabelsView, MadeTokenView, MadeWebhookView, TokensView, TokenView, WebhooksView
from wallet.texts import plain

Kept = LabelsView | TokensView | MadeTokenView | WebhooksView | MadeWebhookView


def render(console: Console, view: Kept, currency: Currency | None) -> None:
    """Print a view."""
    match view:
        case TokensView():
            _tokens(console, view, currency)
        case MadeTokenView():
            console.print(f"Token {view.made.id}, for {plain(view.made.name)}: {_rights(view.made, currency)}")
            console.print("\nIt is shown this once; only its hash is kept:\n")
            console.print(view.token, soft_wrap=True, highlight=False, markup=False)
        case LabelsView():
            _labels(console, view)
        case WebhooksView():
            _webhooks(console, view)
        case MadeWebhookView():
            console.print(f"Webhook {view.made.id}: {plain(view.made.url)}", soft_wrap=True)
            console.print("\nThe secret that signs what is sent; it is shown this once:\n")
            console.print(view.secret, soft_wrap=True, highlight=False, markup=False)
        case _:
            assert_never(view)


def _tokens(console: Console, view: TokensView, currency: Currency | None) -> None:
    if not view.tokens:
        console.print("No tokens: nobody but you may ask this wallet. `wallet token create` makes one.")
        return
    table = Table("id", "name", "may", "spent", box=None, pad_edge=False)
    for token in view.tokens:
        spent = _money(token.spent, currency) if "spend" in token.scopes else ""
        table.add_row(token.id, plain(token.name), _rights(token, currency), spent)
    console.print(table)


def _labels(console: Console, view: LabelsView) -> None:
    if not view.labels:
        console.print("No labels. `wallet label SUBJECT TEXT` makes one.")
        return
    table = Table("of", "label", box=None, pad_edge=False)
    for subject, text in view.labels.items():
        table.add_row(plain(subject), plain(text))
    console.print(table)


def _webhooks(console: Console, view: WebhooksView) -> None:
    if not view.webhooks:
        console.print("No webhooks. `wallet webhook add URL` registers one.")
        return
    table = Table("id", "url", "waiting", "failed", "trouble", box=None, pad_edge=False)
    for webhook in view.webhooks:
        counts = (f"{webhook.waiting:,}", f"{webhook.failed:,}")
        table.add_row(webhook.id, plain(webhook.url), *counts, plain(webhook.trouble or ""))
    console.print(table)


def _rights(token: TokenView, currency: Currency | None) -> str:
    rights = ", ".join(token.scopes)
    if "spend" in token.scopes:
        rights += f" up to {_money(token.limit, currency)}"
    if token.period_limit is not None and token.period_ms is not None:
        rights += f", {_money(token.period_limit, currency)} in {format_duration(token.period_ms)}"
    return rights


def _money(units: int, currency: Currency | None) -> str:
    return str(units) if currency is None else format_money(units, currency)
