"""What the wallet's API keeps for itself, and answers without the wallet: its tokens, webhooks, labels.

It can be asked while nobody serves the wallet, and needs no key of it: whoever is in the home has the file.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from wallet.api.delivering import send
from wallet.api.events import Chronicle
from wallet.api.labels import LabelBook
from wallet.api.store import Store
from wallet.api.tokens import TokenBook
from wallet.api.webhooks import WebhookBook, message_of
from wallet.history import now_ms
from wallet.home import Home
from wallet.requests import (
    AddWebhook,
    Commands,
    CreateToken,
    CurrencyView,
    LabelsView,
    ListLabels,
    ListTokens,
    ListWebhooks,
    MadeTokenView,
    MadeWebhookView,
    RemoveWebhook,
    Report,
    Request,
    RevokeToken,
    SetLabel,
    TokensView,
    TryWebhook,
    View,
    WebhooksView,
    no_report,
)

R = TypeVar("R")
_Handler = Callable[[Any], Awaitable[Any]]


class Office:
    """`wallet.requests.Commands` of what stands in ``api.db``; all else is passed on."""

    def __init__(self, home: Home, commands: Commands | None = None, chronicle: Chronicle | None = None) -> None:
        """Open the file; the home must be locked by us.

        Args:
            home: Whose file.
            commands: What answers everything else; None while nobody serves the wallet.
            chronicle: The history, of a wallet that is being served.

        Raises:
            LocalError: It cannot be opened.
        """
        self._home = home
        self._commands = commands
        self.store = Store(home.path / "api.db")
        self.tokens = TokenBook(self.store)
        self.webhooks = WebhookBook(self.store)
        self.labels = LabelBook(self.store)
        self._chronicle = chronicle
        self._handlers: dict[type[Request[Any]], _Handler] = {
            CreateToken: self._create_token,
            ListTokens: self._list_tokens,
            RevokeToken: self._revoke_token,
            AddWebhook: self._add_webhook,
            ListLabels: self._list_labels,
            SetLabel: self._set_label,
            ListWebhooks: self._list_webhooks,
            RemoveWebhook: self._remove_webhook,
            TryWebhook: self._test_webhook,
        }

    def close(self) -> None:
        """Close the file."""
        self.store.close()

    def answers(self, request: Request[Any]) -> bool:
        """Whether a request is answered here."""
        return type(request) in self._handlers

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        """Do what the request says."""
        handler = self._handlers.get(type(request))
        if handler is not None:
            return cast(R, await handler(request))
        assert self._commands is not None, "without a wallet only what it answers itself is asked"
        view = await self._commands.run(request, report)
        return cast(R, self.labels.beside(view)) if isinstance(view, View) else view

    async def _create_token(self, request: CreateToken) -> MadeTokenView:
        made, text = self.tokens.create(
            request.name, request.scopes, request.limit, request.period_limit, request.period_ms
        )
        return MadeTokenView(token=text, made=self.tokens.view(made), currency=self._currency())

    async def _list_tokens(self, _: ListTokens) -> TokensView:
        views = tuple(self.tokens.view(token) for token in self.tokens)
        return TokensView(tokens=views, currency=self._currency())

    async def _revoke_token(self, request: RevokeToken) -> TokensView:
        self.tokens.revoke(request.token)
        return await self._list_tokens(ListTokens())

    async def _add_webhook(self, request: AddWebhook) -> MadeWebhookView:
        place = None if self._chronicle is None else await asyncio.to_thread(self._chronicle.last_place)
        made, secret = self.webhooks.add(request.url, private=request.private, place=place)
        return MadeWebhookView(secret=secret, made=self.webhooks.view(made))

    async def _list_webhooks(self, _: ListWebhooks) -> WebhooksView:
        return WebhooksView(webhooks=tuple(self.webhooks.view(webhook) for webhook in self.webhooks))

    async def _remove_webhook(self, request: RemoveWebhook) -> WebhooksView:
        self.webhooks.remove(request.webhook)
        return await self._list_webhooks(ListWebhooks())

    async def _test_webhook(self, request: TryWebhook) -> WebhooksView:
        webhook = self.webhooks.find(request.webhook)
        await send(webhook, f"test-{secrets.token_hex(8)}", message_of("test", None, now_ms()))
        return await self._list_webhooks(ListWebhooks())

    async def _list_labels(self, _: ListLabels) -> LabelsView:
        return LabelsView(labels=self.labels.all)

    async def _set_label(self, request: SetLabel) -> LabelsView:
        self.labels.set(request.subject, request.text)
        return LabelsView(labels=self.labels.all)

    def _currency(self) -> CurrencyView | None:
        if not self._home.connected:
            return None
        currency = self._home.genesis().currency
        return CurrencyView(symbol=currency.symbol, decimals=currency.decimals)
