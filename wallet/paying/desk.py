"""Payments of an open wallet: `Wallet.payments`.

    paid = await alice.payments.pay(bob_address, 250)                     # without an invoice
    await alice.payments.rebalance(full, empty, 1_000, max_fee=3)
    await alice.invoices.pay(text)                                        # of somebody's invoice

Source: decisions 038 and 042; `wallet.paying.payer`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable

from layer1.crypto import Hash, PublicKey
from layer1.errors import Refused, check
from wallet.amounts import format_money
from wallet.follower import Follower
from wallet.history import now_ms
from wallet.invoices.book import InvoiceBook
from wallet.invoices.gathering import PATIENCE_MS
from wallet.invoices.invoice import Invoice, format_invoice
from wallet.invoices.receipt import make_receipt
from wallet.locking import Locking
from wallet.onion.payload import PREIMAGE_BYTES, SECRET_BYTES
from wallet.parts import Parts
from wallet.paying.channels import OwnChannels
from wallet.paying.core import MAX_PARTS
from wallet.paying.fees import most_fee
from wallet.paying.payer import LOCK_MARGINS, Payer, Paying
from wallet.paying.records import Kind, Payment
from wallet.paying.ways import Errand, Routes, Ways
from wallet.peers import Peers
from wallet.requests import Report, no_report

WAIT_S = 60.0
"""How long a caller waits for the payee; what is held for its owner's decision may take longer."""


class PaymentDesk:
    """Makes payments by locks, and knows those that were made.

    Attributes:
        routes: Finds ways over others' channels; without it only our own channel with a payee will do.
    """

    def __init__(self, parts: Parts, peers: Peers, follower: Follower, locking: Locking, book: InvoiceBook) -> None:
        clock: Callable[[], int | None] = lambda: follower.clock_ms  # noqa: E731
        self._parts, self._book = parts, book
        self.peers = peers
        self.routes: Routes | None = None
        self._us = parts.keys.spending.public
        ways = Ways(self._us, OwnChannels(parts, peers, follower), lambda: self.routes, parts.genesis.currency)
        self.payer = Payer(parts, locking, book, clock, ways)
        self._lock_ms = (LOCK_MARGINS + 1) * locking.margin_ms + PATIENCE_MS
        """As an invoice asks: so long a payee may wait for all parts."""

    def start(self) -> None:
        """Look after what was under way; news of locks come by `wallet.switchboard`."""
        self.payer.start()
        if self.payer.is_busy:
            self.peers.keep()

    async def close(self) -> None:
        """Stop; what is under way is looked after when the wallet is opened again."""
        await self.payer.close()

    async def pay_invoice(
        self,
        invoice: Invoice,
        amount: int | None = None,
        *,
        max_fee: int | None = None,
        parts: int = MAX_PARTS,
        wait_s: float = WAIT_S,
        report: Report = no_report,
    ) -> Paying:
        """Pay an invoice, once: who asks again is told what became of it, or waits for it.

        Args:
            invoice: As `parse_invoice` gives it.
            amount: Units, if the invoice leaves it open.
            max_fee: What forwarders may keep in all, units; by default `wallet.paying.fees.most_fee`.
            parts: In how many at most; one, if the invoice does not say that its payee takes several.
            wait_s: For the payee. A payment that is then pending may still be paid: never pay it otherwise meanwhile.
            report: Told what is being waited for, and of each hop that refuses.

        Raises:
            Refused: Nothing was paid: the invoice is not for us, expired, or there is no way to its payee; or the
                payment failed and the money is back, with the last refusal as the code.
            LedgerUnreachable: The ledger's clock is not known; nothing was paid.
        """
        units = self._units(invoice, amount)
        payment = Payment(
            Kind.INVOICE,
            invoice.payment_hash,
            invoice.payee,
            units,
            most_fee(units, max_fee),
            invoice=invoice,
            secret=invoice.payment_secret,
            began_ms=now_ms(),
        )
        several = parts if invoice.has("parts") else 1
        return await self.payer.pay(Errand(payment, invoice.lock_ms, several, invoice.expires_ms), wait_s, report)

    async def pay(
        self,
        payee: PublicKey,
        amount: int,
        *,
        max_fee: int | None = None,
        parts: int = MAX_PARTS,
        wait_s: float = WAIT_S,
        report: Report = no_report,
    ) -> Paying:
        """Pay somebody who did not ask for it, over any route. Each call is a payment of its own.

        The payee finds the preimage in the packet. Since it signed no invoice, there is no receipt for others.

        Raises:
            Refused: Nothing was paid; ``unknown_spontaneous`` if the payee takes nothing without an invoice.
        """
        check(payee != self._us, "own_address", "this wallet pays itself by `wallet channel rebalance` only")
        payment = self._fresh(Kind.SPONTANEOUS, payee, amount, max_fee)
        return await self.payer.pay(Errand(payment, self._lock_ms, parts), wait_s, report)

    async def rebalance(
        self,
        first: Hash,
        last: Hash,
        amount: int,
        *,
        max_fee: int | None = None,
        wait_s: float = WAIT_S,
        report: Report = no_report,
    ) -> Paying:
        """Pay ourselves, out of one of our channels into another: both can then do what they could not.

        Raises:
            Refused: ``same_channel``; nothing has moved, or the money is back.
        """
        check(first != last, "same_channel", "money goes from one channel to another: name two")
        secret = os.urandom(SECRET_BYTES)
        payment = self._fresh(Kind.CIRCLE, self._us, amount, max_fee, secret=secret, last_channel=last)
        return await self.payer.pay(Errand(payment, self._lock_ms, 1, first=first), wait_s, report)

    def newest(self, limit: int) -> list[Payment]:
        """Our newest payments, the newest first."""
        return [self.payer.newer(each) for each in self._book.newest_payments(limit)]

    def find(self, name: str) -> Payment:
        """A payment, by its hash or the start of it, or by the text of its invoice.

        Raises:
            Refused: ``unknown_payment`` or ``ambiguous_payment``.
        """
        return self.payer.newer(self._book.find_payment(name))

    def receipt(self, name: str) -> bytes:
        """The file that proves a payment of an invoice.

        Raises:
            Refused: As :meth:`find`, or ``no_receipt``.
        """
        payment = self.find(name)
        if payment.invoice is None:
            raise Refused("no_receipt", "nobody signed an invoice for it: that is what a receipt proves")
        if not payment.preimage:
            raise Refused(
                "no_receipt", f"the payment is {payment.fate}, and its preimage was not seen: it is the receipt"
            )
        return make_receipt(format_invoice(payment.invoice), payment.preimage)

    def _fresh(self, kind: Kind, payee: PublicKey, amount: int, max_fee: int | None, **more: bytes) -> Payment:
        """Under a hash of our own."""
        check(amount >= 1, "bad_amount", f"a payment of {amount} units; the least is 1")
        preimage = os.urandom(PREIMAGE_BYTES)
        return Payment(
            kind,
            hashlib.sha256(preimage).digest(),
            payee,
            amount,
            most_fee(amount, max_fee),
            own_preimage=preimage,
            began_ms=now_ms(),
            **more,  # type: ignore[arg-type]
        )

    def _units(self, invoice: Invoice, amount: int | None) -> int:
        """What to pay, if the invoice is for this wallet to pay.

        Raises:
            Refused: ``wrong_chain``, ``own_invoice``, ``amount_needed``, ``wrong_amount``, ``bad_amount``.
        """
        chain_id, currency = self._parts.genesis.chain_id, self._parts.genesis.currency
        if invoice.chain_id != chain_id:
            raise Refused("wrong_chain", f"it is of chain {invoice.chain_id.hex()}, this wallet of {chain_id.hex()}")
        if invoice.payee == self._us:
            raise Refused("own_invoice", "this wallet made that invoice: give it to whoever is to pay")
        if invoice.amount is None:
            check(amount is not None, "amount_needed", "the invoice leaves the amount to you: name one behind it")
            assert amount is not None
            check(amount > 0, "bad_amount", f"a payment of {amount} units; the least is 1")
            return amount
        if amount is not None and amount != invoice.amount:
            asked, named = format_money(invoice.amount, currency), format_money(amount, currency)
            raise Refused("wrong_amount", f"the invoice is over {asked}, you named {named}: leave the amount out")
        return invoice.amount
