"""Requests answered by the wallet in this process.

*Safety:* every request is answered by the library's own calls; nothing here signs.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, cast

from layer1.client import LedgerUnreachable
from layer1.codec import decode
from layer1.crypto import format_address, parse_address
from layer1.errors import Refused, RemoteError
from layer1.ledger.transactions import Transaction, Transfer
from wallet.history import history_view
from wallet.home import Home
from wallet.invoices.commands import InvoiceCommands
from wallet.paying.commands import PaymentCommands
from wallet.requests import (
    AddWatchtower,
    AgreeToSettle,
    BooksView,
    ChangeChannel,
    ChannelsView,
    ChannelView,
    CloseChannel,
    ContactView,
    DismissStandby,
    History,
    HistoryView,
    ListChannels,
    ListWatchtowers,
    OpenChannel,
    PaidView,
    Pay,
    Progress,
    Promote,
    PromotedView,
    Prune,
    PrunedView,
    RemoveWatchtower,
    ReopenChannel,
    ReplaceWitness,
    Report,
    Request,
    Restore,
    RestoredView,
    Send,
    SendSigned,
    SentView,
    Show,
    ShowBooks,
    ShowChannel,
    ShowContact,
    ShowStandby,
    StandbyView,
    WalletView,
    WatchtowersView,
    no_report,
)
from wallet.route_commands import RouteCommands
from wallet.show import show_home
from wallet.views import currency_view
from wallet.wallet import Wallet

R = TypeVar("R")
_Handler = Callable[[Any, Report], Awaitable[Any]]


class LocalCommands:
    """`wallet.requests.Commands`, done here."""

    def __init__(self, home: Home, wallet: Wallet) -> None:
        self._home = home
        self._wallet = wallet
        self._payments = PaymentCommands(wallet)
        self._handlers: dict[type[Request[Any]], _Handler] = {
            Show: self._show,
            ShowContact: self._contact,
            Send: self._send,
            SendSigned: self._send_signed,
            OpenChannel: self._open,
            ListChannels: self._list,
            Restore: self._restore,
            ShowChannel: self._channel,
            ChangeChannel: self._change,
            ReopenChannel: self._reopen,
            ReplaceWitness: self._replace_witness,
            CloseChannel: self._close,
            AgreeToSettle: self._agree,
            Pay: self._pay,
            History: self._history,
            ShowBooks: self._books,
            Prune: self._prune,
            AddWatchtower: self._add_watchtower,
            ListWatchtowers: self._watchtowers,
            RemoveWatchtower: self._remove_watchtower,
            ShowStandby: self._show_standby,
            DismissStandby: self._dismiss_standby,
            Promote: self._promote,
            **InvoiceCommands(wallet).handlers,
            **RouteCommands(wallet).handlers,
            **self._payments.handlers,
        }

    async def run(self, request: Request[R], report: Report = no_report) -> R:
        """Do what the request says."""
        return cast(R, await self._handlers[type(request)](request, report))

    async def _show(self, _: Show, report: Report) -> WalletView:
        report(Progress("asking the ledger"))
        return await show_home(self._home, self._wallet.contact, serving=self._wallet.contact is not None)

    async def _contact(self, _: ShowContact, report: Report) -> ContactView:
        return ContactView(address=format_address(self._wallet.address), contact=self._wallet.contact)

    async def _send(self, request: Send, report: Report) -> SentView:
        recipient = parse_address(request.recipient)
        report(Progress("waiting for the ledger"))
        return await self._sent(await self._wallet.send(recipient, request.amount))

    async def _send_signed(self, request: SendSigned, report: Report) -> SentView:
        try:
            transaction = decode(bytes.fromhex(request.transaction), Transaction)
        except (ValueError, RemoteError) as error:
            raise Refused("bad_usage", f"not a transaction: {error}") from None
        report(Progress("waiting for the ledger"))
        await self._wallet.send_signed(transaction)
        return await self._sent(transaction)

    async def _sent(self, transaction: Transaction) -> SentView:
        transfer = transaction.payload
        assert isinstance(transfer, Transfer), "nothing else is sent"
        balance: int | None = None
        with contextlib.suppress(LedgerUnreachable):  # it is done, whether or not the ledger still answers
            balance = (await self._wallet.balance(transfer.sender)).value
        return SentView(
            transaction_id=transaction.id.hex(),
            recipient=format_address(transfer.recipient),
            amount=transfer.amount,
            source="spending" if transfer.sender == self._wallet.address else "savings",
            balance=balance,
        )

    async def _open(self, request: OpenChannel, report: Report) -> ChannelView:
        channel = await self._wallet.open_channel(
            request.contact,
            deposit=request.deposit,
            peer_deposit=request.peer_deposit,
            bond=request.bond,
            peer_bond=request.peer_bond,
            challenge_period_ms=request.challenge_period_ms,
            witness=request.witness,
            witness_timeout_ms=request.witness_timeout_ms,
            report=report,
        )
        return channel.view()

    async def _list(self, _: ListChannels, report: Report) -> ChannelsView:
        report(Progress("asking the ledger"))
        channels = await self._wallet.channels()
        currency = currency_view(self._wallet.genesis.currency)
        return ChannelsView(channels=tuple(channels), clock_ms=self._wallet.clock_ms, currency=currency)

    async def _restore(self, _: Restore, report: Report) -> RestoredView:
        found = await self._wallet.restore(report)
        return RestoredView(channels=tuple(found), currency=currency_view(self._wallet.genesis.currency))

    async def _channel(self, request: ShowChannel, report: Report) -> ChannelView:
        report(Progress("asking the ledger"))
        return await self._wallet.channel(request.channel).refresh()

    async def _change(self, request: ChangeChannel, report: Report) -> ChannelView:
        channel = self._wallet.channel(request.channel)
        match request.action:
            case "top-up":
                return await channel.top_up(request.amount, report)
            case "withdraw":
                return await channel.withdraw(request.amount, report)
            case "replace-key":
                return await channel.replace_key(report)
            case "resume":
                return await channel.resume(report)

    async def _replace_witness(self, request: ReplaceWitness, report: Report) -> ChannelView:
        return await self._wallet.replace_witness(request.channel, request.witness, report)

    async def _reopen(self, request: ReopenChannel, report: Report) -> ChannelView:
        return (await self._wallet.reopen_channel(request.channel, report)).view()

    async def _close(self, request: CloseChannel, report: Report) -> ChannelView:
        channel = self._wallet.channel(request.channel)
        return await channel.close(force=request.force, wait=request.wait, plead=request.plead, report=report)

    async def _agree(self, request: AgreeToSettle, report: Report) -> ChannelView:
        return await self._wallet.channel(request.channel).agree(report)

    async def _pay(self, request: Pay, report: Report) -> PaidView:
        channel = self._payments.channel_for(request)
        if channel is None:
            return await self._payments.pay(request, report)
        paid = await channel.pay_many(request.amount, request.count, request.memo, report)
        view = channel.view()
        return PaidView(
            channel=view.id,
            peer=view.peer,
            amount=request.amount,
            count=request.count,
            committed=paid.committed,
            pending=paid.pending,
            refused=paid.refused,
            refusal=paid.refusal.message if paid.refusal is not None else None,
            seconds=paid.seconds,
            can_send=view.can_send,
            can_receive=view.can_receive,
        )

    async def _history(self, request: History, _: Report) -> HistoryView:
        page = await asyncio.to_thread(self._wallet.history_page, request)  # it may be far away
        return history_view(page, request, currency_view(self._wallet.genesis.currency))

    async def _books(self, _: ShowBooks, report: Report) -> BooksView:
        report(Progress("asking the ledger"))
        return await self._wallet.books()

    async def _prune(self, request: Prune, report: Report) -> PrunedView:
        report(Progress("deleting old payments from the history"))
        versions = await asyncio.to_thread(self._wallet.prune, request.before_ms)  # it may take long, and be far away
        return PrunedView(versions=versions, before_ms=request.before_ms)

    async def _add_watchtower(self, request: AddWatchtower, report: Report) -> WatchtowersView:
        report(Progress("reaching the watchtower"))
        await self._wallet.add_watchtower(request.contact, bounty=request.bounty, rely=request.rely)
        return await self._watchtowers(ListWatchtowers(), report)

    async def _watchtowers(self, _: ListWatchtowers, __: Report) -> WatchtowersView:
        currency = currency_view(self._wallet.genesis.currency)
        return WatchtowersView(watchtowers=self._wallet.watchtowers, currency=currency)

    async def _remove_watchtower(self, request: RemoveWatchtower, report: Report) -> WatchtowersView:
        self._wallet.remove_watchtower(request.watchtower)
        await self._wallet.settled()
        return await self._watchtowers(ListWatchtowers(), report)

    async def _show_standby(self, _: ShowStandby, report: Report) -> StandbyView:
        return self._wallet.standby()

    async def _dismiss_standby(self, _: DismissStandby, report: Report) -> StandbyView:
        report(Progress("waiting for the ledger"))
        return await self._wallet.go_alone()

    async def _promote(self, _: Promote, report: Report) -> PromotedView:
        raise Refused("head_home", "this home is the head already: a standby is promoted, in its own home")
