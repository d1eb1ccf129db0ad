"""Requests about payments by locks, answered by the wallet in this process."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any

from layer1.crypto import PublicKey, parse_address
from layer1.errors import Refused, check
from wallet.channel import Channel
from wallet.contacts import parse_contact
from wallet.paying.payer import Paying
from wallet.paying.records import Fate, Payment
from wallet.paying.views import payment_view
from wallet.requests import (
    ListPayments,
    PaidView,
    Pay,
    PayInvoice,
    PaymentsView,
    PaymentView,
    RebalanceChannel,
    Report,
    Request,
    ShowPayment,
)
from wallet.views import currency_view
from wallet.wallet import Wallet


class PaymentCommands:
    """One of `wallet.local.LocalCommands`."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self.handlers: dict[type[Request[Any]], Callable[[Any, Report], Awaitable[Any]]] = {
            PayInvoice: self._pay_invoice,
            RebalanceChannel: self._rebalance,
            ListPayments: self._list,
            ShowPayment: self._show,
        }

    def channel_for(self, request: Pay) -> Channel | None:
        """The one channel that carries it by itself; None if a route has to be found.

        Raises:
            Refused: ``unknown_channel`` or ``ambiguous_channel``.
        """
        payee = address_in(request.target)
        if payee is None:
            return self._wallet.channel(request.target)
        alone = request.count > 1 or bool(request.memo)
        try:
            channel = self._wallet.channel_with(payee)
        except Refused as refusal:
            if refusal.code != "unknown_channel":
                raise
            text = f"{refusal.message}. --count and --memo are for a channel with the payee: leave them out"
            check(not alone, refusal.code, text)
            return None
        return channel if alone or channel.view().can_send >= request.amount else None

    async def pay(self, request: Pay, report: Report) -> PaidView:
        """Over a route, without an invoice."""
        payee = address_in(request.target)
        assert payee is not None, "a channel carries what names it"
        started = time.perf_counter()
        paying = await self._wallet.payments.pay(
            payee,
            request.amount,
            max_fee=request.max_fee,
            parts=request.parts,
            wait_s=request.wait_ms / 1000,
            report=report,
        )
        paid, view = paying.payment.fate is Fate.PAID, self.view(paying)
        channel = self._wallet.channel(view.channel).view()
        return PaidView(
            channel=view.channel,
            peer=view.payee,
            amount=request.amount,
            count=1,
            committed=int(paid),
            pending=int(not paid),
            refused=0,
            refusal=None,
            seconds=time.perf_counter() - started,
            can_send=channel.can_send,
            can_receive=channel.can_receive,
            payment=view,
        )

    async def _pay_invoice(self, request: PayInvoice, report: Report) -> PaymentView:
        paying = await self._wallet.invoices.pay(
            request.invoice,
            request.amount,
            max_fee=request.max_fee,
            parts=request.parts,
            wait_s=request.wait_ms / 1000,
            report=report,
        )
        return self.view(paying)

    async def _rebalance(self, request: RebalanceChannel, report: Report) -> PaymentView:
        first, last = (self._wallet.channel(name).id for name in (request.channel, request.to))
        paying = await self._wallet.payments.rebalance(
            first, last, request.amount, max_fee=request.max_fee, wait_s=request.wait_ms / 1000, report=report
        )
        return self.view(paying)

    async def _list(self, request: ListPayments, _: Report) -> PaymentsView:
        found = tuple(map(self._of, self._wallet.payments.newest(request.limit)))
        return PaymentsView(payments=found, currency=currency_view(self._wallet.genesis.currency))

    async def _show(self, request: ShowPayment, _: Report) -> PaymentView:
        return self._of(self._wallet.payments.find(request.payment))

    def view(self, paying: Paying) -> PaymentView:
        """What its caller sees."""
        return self._of(paying.payment, repeated=paying.repeated)

    def _of(self, payment: Payment, *, repeated: bool = False) -> PaymentView:
        trying = self._wallet.payments.payer.is_trying(payment.payment_hash)
        return payment_view(payment, self._wallet.address, trying=trying, repeated=repeated)


def address_in(target: str) -> PublicKey | None:
    """Whom a target names; None if it names a channel."""
    if "@" in target:
        return parse_contact(target).address
    return parse_address(target) if target.startswith("wedge1") else None
