"""Requests about invoices, answered by the wallet in this process."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from layer1.errors import Refused
from wallet.invoices.payee import Wanted
from wallet.invoices.receipt import read_receipt
from wallet.invoices.records import Issued
from wallet.invoices.views import invoice_view, receipt_view
from wallet.paying.records import Kind
from wallet.paying.views import payment_view
from wallet.requests import (
    CancelInvoice,
    CreateInvoice,
    InvoicesView,
    InvoiceView,
    ListInvoices,
    PaymentView,
    Progress,
    ReceiptView,
    Report,
    Request,
    SettleInvoice,
    ShowInvoice,
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
            ShowInvoice: self._show,
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
        return self._view(await self._wallet.invoices.create(wanted))

    async def _list(self, request: ListInvoices, _: Report) -> InvoicesView:
        return InvoicesView(
            invoices=tuple(map(self._view, self._wallet.invoices.issued(request.limit))),
            payments=tuple(self._payments(request.limit)),
            clock_ms=self._wallet.clock_ms,
            currency=currency_view(self._wallet.genesis.currency),
        )

    def _payments(self, limit: int) -> Iterator[PaymentView]:
        """Of others' invoices; `ListPayments` has the others too."""
        payments = self._wallet.payments
        for payment in payments.newest(limit):
            if payment.kind is Kind.INVOICE:
                trying = payments.payer.is_trying(payment.payment_hash)
                yield payment_view(payment, self._wallet.address, trying=trying)

    async def _show(self, request: ShowInvoice, _: Report) -> InvoiceView:
        return self._view(self._wallet.invoices.find(request.invoice))

    def _view(self, issued: Issued) -> InvoiceView:
        waiting = self._wallet.invoices.payee.waiting_units(issued.payment_hash)
        return invoice_view(issued, self._wallet.clock_ms, waiting)

    async def _settle(self, request: SettleInvoice, report: Report) -> InvoiceView:
        report(Progress("claiming what is held"))
        preimage = _from_hex(request.preimage, "a preimage")
        return self._view(await self._wallet.invoices.settle(request.invoice, preimage))

    async def _cancel(self, request: CancelInvoice, _: Report) -> InvoiceView:
        return self._view(await self._wallet.invoices.cancel(request.invoice))

    async def _receipt(self, request: ShowReceipt, _: Report) -> ReceiptView:
        file = self._wallet.invoices.receipt(request.payment)
        return receipt_view(read_receipt(file), self._wallet.genesis.currency)


def _from_hex(text: str, what: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise Refused("bad_usage", f"{text[:80]!r} is not {what} in hex") from None
