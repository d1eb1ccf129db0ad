"""What one sees of invoices and receipts; of payments, `wallet.paying.views`."""

from __future__ import annotations

from layer1.crypto import format_address
from layer1.ledger.genesis import Currency
from wallet.amounts import format_money
from wallet.invoices.invoice import Invoice, format_invoice
from wallet.invoices.receipt import Receipt, describe
from wallet.invoices.records import Issued, Stage
from wallet.requests import DecodedView, HintView, InvoiceView, ReceiptView
from wallet.views import currency_view


def decoded_view(invoice: Invoice, currency: Currency | None) -> DecodedView:
    """An invoice of anybody."""
    return DecodedView(
        invoice=format_invoice(invoice),
        payment_hash=invoice.payment_hash.hex(),
        payee=format_address(invoice.payee),
        chain_id=invoice.chain_id.hex(),
        amount=invoice.amount,
        description=invoice.description,
        created_ms=invoice.created_ms,
        expires_ms=invoice.expires_ms,
        lock_ms=invoice.lock_ms,
        hints=tuple(
            HintView(
                node=format_address(hint.node),
                channel=hint.group_id.hex(),
                base_fee=hint.base_fee,
                fee_ppm=hint.fee_ppm,
            )
            for hint in invoice.hints
        ),
        features=tuple(feature.name for feature in invoice.features),
        currency=currency_view(currency) if currency is not None else None,
    )


def receipt_view(receipt: Receipt, currency: Currency | None) -> ReceiptView:
    """A receipt that was checked, with what it says in words."""
    invoice = receipt.invoice
    amount = "" if invoice.amount is None else f"{invoice.amount} units"
    if invoice.amount is not None and currency is not None:
        amount = format_money(invoice.amount, currency)
    proven, not_proven = describe(receipt, amount)
    return ReceiptView(
        invoice=format_invoice(invoice),
        preimage=receipt.preimage.hex(),
        payment_hash=invoice.payment_hash.hex(),
        payee=format_address(invoice.payee),
        chain_id=invoice.chain_id.hex(),
        amount=invoice.amount,
        description=invoice.description,
        proven=proven,
        not_proven=not_proven,
    )


def invoice_view(issued: Issued, clock_ms: int | None, waiting: int = 0) -> InvoiceView:
    """An invoice of ours, with what is here of a payment that is not complete."""
    invoice = issued.invoice
    over = issued.stage is Stage.OPEN and clock_ms is not None and clock_ms > invoice.expires_ms
    return InvoiceView(
        invoice=format_invoice(invoice),
        payment_hash=invoice.payment_hash.hex(),
        state="expired" if over else issued.stage.value,
        amount=invoice.amount,
        received=issued.received,
        held=sum(part.amount for part in issued.parts),
        waiting=waiting,
        hold=issued.hold,
        description=invoice.description,
        created_ms=invoice.created_ms,
        expires_ms=invoice.expires_ms,
        remaining_ms=max(invoice.expires_ms - clock_ms, 0) if clock_ms is not None else None,
        changed_ms=issued.changed_ms,
    )
