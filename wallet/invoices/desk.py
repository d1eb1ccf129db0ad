"""Invoices of an open wallet: `Wallet.invoices`.

    issued = await bob.invoices.create(Wanted(250, "two coffees"))
    paying = await alice.invoices.pay(format_invoice(issued.invoice))
    receipt = alice.invoices.receipt(paying.payment.payment_hash.hex())

Source: decision 038; `wallet.invoices.payee`, `wallet.paying`.
"""

from __future__ import annotations

from collections.abc import Callable

from layer1.crypto import Hash
from wallet.follower import Follower
from wallet.invoices.book import InvoiceBook
from wallet.invoices.invoice import parse_invoice
from wallet.invoices.payee import Payee, Wanted
from wallet.invoices.records import Issued
from wallet.locking import Locking
from wallet.parts import Parts
from wallet.paying.core import MAX_PARTS
from wallet.paying.desk import WAIT_S, PaymentDesk
from wallet.paying.payer import Payer, Paying
from wallet.paying.records import Payment
from wallet.requests import Report, no_report


class InvoiceDesk:
    """Makes, pays, settles, cancels and lists invoices."""

    def __init__(
        self, parts: Parts, follower: Follower, locking: Locking, book: InvoiceBook, payments: PaymentDesk
    ) -> None:
        clock: Callable[[], int | None] = lambda: follower.clock_ms  # noqa: E731
        self._book = book
        self._payments = payments
        self.payee = Payee(parts, locking, book, clock)
        self.payee.circle = payments.payer.circle

    @property
    def payer(self) -> Payer:
        """Offers the locks of our payments."""
        return self._payments.payer

    def start(self) -> None:
        """Take up what was under way; news of locks come by `wallet.switchboard`."""
        self.payee.start()
        if self._book.unfinished():
            self._payments.peers.keep()

    async def close(self) -> None:
        """Stop; what is under way goes on when the wallet is opened again."""
        await self.payee.close()

    async def create(self, wanted: Wanted) -> Issued:
        """See `Payee.create`."""
        return await self.payee.create(wanted)

    async def pay(
        self,
        text: str,
        amount: int | None = None,
        *,
        max_fee: int | None = None,
        parts: int = MAX_PARTS,
        wait_s: float = WAIT_S,
        report: Report = no_report,
    ) -> Paying:
        """Pay an invoice by its text, once. See `wallet.paying.desk.PaymentDesk.pay_invoice`."""
        return await self._payments.pay_invoice(
            parse_invoice(text), amount, max_fee=max_fee, parts=parts, wait_s=wait_s, report=report
        )

    async def settle(self, name: str, preimage: bytes = b"") -> Issued:
        """See `Payee.settle`."""
        return await self.payee.settle(name, preimage)

    async def cancel(self, name: str) -> Issued:
        """See `Payee.cancel`."""
        return await self.payee.cancel(name)

    def issued(self, limit: int) -> list[Issued]:
        """Our newest invoices, the newest first."""
        return self._book.newest_issued(limit)

    def find(self, name: str) -> Issued:
        """Our invoice by its payment hash, or the start of it.

        Raises:
            Refused: ``unknown_invoice`` or ``ambiguous_invoice``.
        """
        return self._book.find_issued(name)

    def payments(self, limit: int) -> list[Payment]:
        """Our newest payments, the newest first."""
        return self._payments.newest(limit)

    def get(self, payment_hash: Hash) -> Issued | None:
        """Our invoice of this hash, as it stands now."""
        return self._book.issued(payment_hash)

    def receipt(self, name: str) -> bytes:
        """See `wallet.paying.desk.PaymentDesk.receipt`."""
        return self._payments.receipt(name)
