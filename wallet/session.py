"""How a verb gets its answer: from the process that serves the home, or by entering the home itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeVar, cast

from layer1.client import LedgerClient
from layer1.codec import encode
from layer1.errors import Refused
from layer1.ledger.transactions import Transaction
from wallet.api.client import RemoteCommands
from wallet.headship import check_is_standby, read_standing, resting, take_over
from wallet.home import Home
from wallet.requests import (
    AddWebhook,
    CreateToken,
    CurrencyView,
    History,
    HistoryView,
    ListLabels,
    ListTokens,
    ListWebhooks,
    Promote,
    PromotedView,
    Prune,
    PrunedView,
    RemoveWebhook,
    Report,
    Request,
    RevokeToken,
    SendSigned,
    SetLabel,
    Show,
    ShowStandby,
    TryWebhook,
)
from wallet.show import show_home

if TYPE_CHECKING:
    from wallet.history import History as LocalHistory

R = TypeVar("R")
OFFICE = (
    CreateToken,
    ListTokens,
    RevokeToken,
    AddWebhook,
    ListWebhooks,
    RemoveWebhook,
    TryWebhook,
    ListLabels,
    SetLabel,
)
"""Requests that `wallet.api.office` answers."""
Passphrase = Callable[[], str]
"""Asks for it when it is needed, and not before."""


async def ask(home: Home, request: Request[R], passphrase: Passphrase, report: Report) -> R:
    """Answer one request.

    Raises:
        Refused: ``home_busy`` if another process is in the home that does not serve it; and as the request goes.
    """
    busy = _busy(home)
    remote = RemoteCommands.find(home) if busy is not None else None
    if remote is not None:
        return await remote.run(request, report)
    if isinstance(request, Show):
        return cast(R, await show_home(home, None, serving=False))
    if busy is not None:
        raise busy
    if type(request) in OFFICE:
        return await _ask_office(home, request, report)
    if isinstance(request, ShowStandby):
        return cast(R, resting(home))
    if isinstance(request, Promote):
        return cast(R, await (_take_over if request.lost else _promote)(home, passphrase()))
    if isinstance(request, History):
        return cast(R, _read_history(home, request))
    if isinstance(request, Prune):
        return cast(R, _prune_history(home, request))
    from wallet.local import LocalCommands  # noqa: PLC0415 - only when needed
    from wallet.wallet import Wallet  # noqa: PLC0415 - only when needed

    async with Wallet.load(home.path, passphrase()) as wallet:
        return await LocalCommands(home, wallet).run(request, report)


async def _ask_office(home: Home, request: Request[R], report: Report) -> R:
    """What the API keeps for itself needs no key."""
    from wallet.api.office import Office  # noqa: PLC0415 - only when needed

    lock = home.lock()
    try:
        office = Office(home)
        try:
            return await office.run(request, report)
        finally:
            office.close()
    finally:
        lock.release()


async def _promote(home: Home, passphrase: str) -> PromotedView:
    """Promote a standby that nobody serves: it has what it has."""
    from wallet.standby import StandbyHome  # noqa: PLC0415 - only when needed

    check_is_standby(read_standing(home))
    async with StandbyHome(home, home.keystore().unlock(passphrase)) as standby:
        return await standby.promote()


async def _take_over(home: Home, passphrase: str) -> PromotedView:
    """Lead from a restored home."""
    key, config = home.keystore().unlock(passphrase).spending, home.config()
    lock = home.lock()
    try:
        light = home.light(keep=True)
        async with LedgerClient(config.ledger_urls, light.genesis, ca=config.ca, light=light) as ledger:
            return PromotedView(term=(await take_over(home, ledger, key)).term, contact=None)
    finally:
        lock.release()


async def sign_from_savings(home: Home, recipient: bytes, amount: int, passphrase: str) -> SendSigned:
    """A transfer out of the savings account, signed here: a serving wallet does not hold that key.

    Raises:
        Refused: ``wrong_passphrase``.
        LedgerUnreachable: Its clock is not known, so nothing was signed.
    """
    key, config = home.keystore().unlock_savings(passphrase), home.config()
    light = home.light(keep=False)
    async with LedgerClient(config.ledger_urls, light.genesis, ca=config.ca, light=light) as ledger:
        transaction: Transaction = await ledger.new_transfer(key, recipient, amount)
    return SendSigned(transaction=encode(transaction).hex())


def _busy(home: Home) -> Refused | None:
    """Why the home cannot be entered now. A socket that a killed process left behind does not keep anybody out."""
    try:
        home.lock().release()
    except Refused as error:
        return error
    return None


@contextlib.contextmanager
def _history_at_rest(home: Home) -> Iterator[LocalHistory]:
    """The history needs no key: whoever is alone in the home has it."""
    from wallet.server_history import open_history  # noqa: PLC0415 - only when needed

    lock = home.lock()
    try:
        history = open_history(home)
        try:
            yield history
        finally:
            history.close()
    finally:
        lock.release()


def _prune_history(home: Home, request: Prune) -> PrunedView:
    with _history_at_rest(home) as history:
        return PrunedView(versions=history.prune(request.before_ms), before_ms=request.before_ms)


def _read_history(home: Home, request: History) -> HistoryView:
    from wallet.history import history_view  # noqa: PLC0415 - only when needed

    currency = home.genesis().currency
    with _history_at_rest(home) as history:
        page = history.page(request)
    view = history_view(page, request, CurrencyView(symbol=currency.symbol, decimals=currency.decimals))
    return _labelled(home, view)


def _labelled(home: Home, view: HistoryView) -> HistoryView:
    from wallet.api.office import Office  # noqa: PLC0415 - only when needed

    office = Office(home)
    try:
        return office.labels.beside(view)
    finally:
        office.close()
