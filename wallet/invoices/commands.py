"""Requests about invoices, answered by the wallet in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from layer1.errors import Refused
from wallet.invoices.payee import Wanted
from wallet.invoices.receipt import read_receipt
from wallet.invoices.views import invoice_view, payment_view, receipt_view
from wallet.requests import (
    CancelInvoice,
    CreateInvoice,
    InvoicePaymentView,
    InvoicesView,
    InvoiceView,
    ListInvoices,
    PayInvoice,
    Progress,
    ReceiptView,
    Report,
    Request,
    SettleInvoice,
    ShowReceipt,
)
from wallet.views import currency_view
from wallet.wallet import Wallet


class InvoiceCommands:
    """One of `wallet.local.LocalCommands`."""

    def __init__(self, wallet: Wallet) -> None:
        self._wallet = wallet
        self.handlers: dict[type[Request[Any]], Callable[[Any, Report], Awaitable[Any]]] = {
            CreateInvoice: self._create,
            ListInvoices: self._list,
            PayInvoice: self._pay,
            SettleInvoice: self._settle,
            CancelInvoice: self._cancel,
            ShowReceipt: self._receipt,
        }

    async def _create(self, request: CreateInvoice, report: Report) -> InvoiceView:
        report(Progress("asking the ledger for its clock"))
        wanted = Wanted(
            amount=request.amount,
            description=request.description,
            life_ms=request.life_ms,
            lock_ms=request.hold_ms,
            hold=request.hold,
            payment_hash=_from_hex(request.payment_hash, "a payment hash"),
            hints=request.hints,
        )
        return invoice_view(await self._wallet.invoices.create(wanted), self._wallet.clock_ms)

    async def _list(self, request: ListInvoices, _: Report) -> InvoicesView:
        desk, clock_ms = self._wallet.invoices, self._wallet.clock_ms
        return InvoicesView(
            invoices=tuple(
                invoice_view(issued, clock_ms, desk.payee.waiting_units(issued.payment_hash))
                for issued in desk.issued(request.limit)
            ),
            payments=tuple(map(payment_view, desk.payments(request.limit))),
            clock_ms=clock_ms,
            currency=currency_view(self._wallet.genesis.currency),
        )

    async def _pay(self, request: PayInvoice, report: Report) -> InvoicePaymentView:
        paying = await self._wallet.invoices.pay(
            request.invoice, request.amount, wait_s=request.wait_ms / 1000, report=report
        )
        return payment_view(paying.payment, repeated=paying.repeated)

    async def _settle(self, request: SettleInvoice, report: Report) -> InvoiceView:
        report(Progress("claiming what is held"))
        preimage = _from_hex(request.preimage, "a preimage")
        return invoice_view(await self._wallet.invoices.settle(request.invoice, preimage), self._wallet.clock_ms)

    async def _cancel(self, request: CancelInvoice, _: Report) -> InvoiceView:
        return invoice_view(await self._wallet.invoices.cancel(request.invoice), self._wallet.clock_ms)

    async def _receipt(self, request: ShowReceipt, _: Report) -> ReceiptView:
        file = self._wallet.invoices.receipt(request.payment)
        return receipt_view(read_receipt(file), self._wallet.genesis.currency)


def _from_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Refused("bad_usage", f"{text[:80]!r} is not {what} in hex") from None
