"""What the wallet's API keeps for itself, and answers without the wallet: its tokens.

It can be asked while nobody serves the wallet, and needs no key of it: whoever is in the home has the file.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

from wallet.api.store import Store
from wallet.api.tokens import TokenBook
from wallet.home import Home
from wallet.requests import (
    Commands,
    CreateToken,
    CurrencyView,
    ListTokens,
    MadeTokenView,
    Report,
    Request,
    RevokeToken,
    TokensView,
    no_report,
)

R = TypeVar("R")
_Handler = Callable[[Any], Any]


class Office:
    """`wallet.requests.Commands` of what stands in ``api.db``; all else is passed on."""

    def __init__(self, home: Home, commands: Commands | None = None) -> None:
        """Open the file; the home must be locked by us.

        Raises:
            LocalError: It cannot be opened.
        """
        self._home = home
        self._commands = commands
        self.store = Store(home.path / "api.db")
        self.tokens = TokenBook(self.store)
        self._handlers: dict[type[Request[Any]], _Handler] = {
            CreateToken: self._create_token,
            ListTokens: self._list_tokens,
            RevokeToken: self._revoke_token,
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
            return cast(R, handler(request))
        assert self._commands is not None, "without a wallet only what it answers itself is asked"
        return await self._commands.run(request, report)

    def _create_token(self, request: CreateToken) -> MadeTokenView:
        made, text = self.tokens.create(
            request.name, request.scopes, request.limit, request.period_limit, request.period_ms
        )
        return MadeTokenView(token=text, made=self.tokens.view(made), currency=self._currency())

    def _list_tokens(self, _: ListTokens) -> TokensView:
        views = tuple(self.tokens.view(token) for token in self.tokens)
        return TokensView(tokens=views, currency=self._currency())

    def _revoke_token(self, request: RevokeToken) -> TokensView:
        self.tokens.revoke(request.token)
        return self._list_tokens(ListTokens())

    def _currency(self) -> CurrencyView | None:
        if not self._home.connected:
            return None
        currency = self._home.genesis().currency
        return CurrencyView(symbol=currency.symbol, decimals=currency.decimals)
