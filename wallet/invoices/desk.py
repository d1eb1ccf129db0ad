"""Invoices of an open wallet: `Wallet.invoices`.

    issued = await bob.invoices.create(Wanted(250, "two coffees"))
    paying = await alice.invoices.pay(format_invoice(issued.invoice))
    receipt = alice.invoices.receipt(paying.payment.invoice.payment_hash.hex())

Source: decision 038; `wallet.invoices.payee`, `wallet.invoices.payer`.
"""

from __future__ import annotations

from collections.abc import Callable

from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import Refused
from wallet.amounts import format_money
from wallet.book import ChannelRecord
from wallet.channel import Channel
from wallet.follower import Follower
from wallet.invoices.book import InvoiceBook
from wallet.invoices.invoice import format_invoice, parse_invoice
from wallet.invoices.payee import Payee, Wanted
from wallet.invoices.payer import WAIT_S, Payer, Paying
from wallet.invoices.receipt import make_receipt
from wallet.invoices.records import Fate, Issued, Payment
from wallet.locking import Locking
from wallet.onion.route import Hop, Route
from wallet.parts import Parts
from wallet.peers import Peers
from wallet.requests import Progress, Report, no_report


class InvoiceDesk:
    """Makes, pays, settles, cancels and lists invoices."""

    def __init__(self, parts: Parts, peers: Peers, follower: Follower, locking: Locking, book: InvoiceBook) -> None:
        clock: Callable[[], int | None] = lambda: follower.clock_ms  # noqa: E731
        self._parts = parts
        self._peers = peers
        self._follower = follower
        self._locking = locking
        self._book = book
        self.payee = Payee(parts, locking, book, clock)
        self.payer = Payer(parts, locking, book, clock)

    def start(self) -> None:
        """Take up what was under way; news of locks come by `wallet.switchboard`."""
        self.payer.start()
        self.payee.start()
        if self._book.pending() or self._book.unfinished():
            self._peers.keep()

    async def close(self) -> None:
        """Stop; what is under way goes on when the wallet is opened again."""
        await self.payee.close()
        await self.payer.close()

    async def create(self, wanted: Wanted) -> Issued:
        """See `Payee.create`."""
        return await self.payee.create(wanted)

    async def pay(
        self, text: str, amount: int | None = None, *, wait_s: float = WAIT_S, report: Report = no_report
    ) -> Paying:
        """Pay an invoice, once: who asks again is told what became of it, or waits for it.

        Args:
            text: The invoice.
            amount: Units, if the invoice leaves it open.
            wait_s: For the payee. A payment that is then pending may still be paid: never pay it otherwise meanwhile.
            report: Told what is being waited for.

        Raises:
            Refused: Nothing was paid: the invoice is not for us, expired, or has no channel; or the payment failed and
                the money is back, with its reason as the code.
            LedgerUnreachable: The ledger's clock is not known; nothing was paid.
        """
        invoice = parse_invoice(text)
        units = self.payer.check(invoice, amount)
        found, repeated = self.payer.known(invoice), True
        if found is None:
            expiry_ms = await self.payer.check_time(invoice)
            route = await self._route(invoice.payee, units, expiry_ms, report)
            repeated = self.payer.known(invoice) is not None
            found = await self.payer.send(invoice, units, route, report)
        if found.fate is Fate.PENDING:
            found = await self.payer.until_decided(invoice.payment_hash, wait_s, report)
        if found.fate is Fate.FAILED:
            last = found.attempts[-1]
            raise Refused(last.code, last.message)
        return Paying(found, repeated)

    async def settle(self, name: str, preimage: bytes = b"") -> Issued:
        """See `Payee.settle`."""
        return await self.payee.settle(name, preimage)

    async def cancel(self, name: str) -> Issued:
        """See `Payee.cancel`."""
        return await self.payee.cancel(name)

    def issued(self, limit: int) -> list[Issued]:
        """Our newest invoices, the newest first."""
        return self._book.newest_issued(limit)

    def payments(self, limit: int) -> list[Payment]:
        """Our newest payments of others' invoices, the newest first."""
        return self._book.newest_payments(limit)

    def get(self, payment_hash: Hash) -> Issued | None:
        """Our invoice of this hash, as it stands now."""
        return self._book.issued(payment_hash)

    def receipt(self, name: str) -> bytes:
        """The file that proves a payment of ours, by the invoice's text, or by its hash or the start of it.

        Raises:
            Refused: ``unknown_payment``, ``ambiguous_payment``, or ``not_paid``.
        """
        payment = self._book.find_payment(name)
        if not payment.preimage:
            raise Refused(
                "no_receipt", f"the payment is {payment.fate}, and its preimage was not seen: it is the receipt"
            )
        return make_receipt(format_invoice(payment.invoice), payment.preimage)

    async def _route(self, payee: PublicKey, units: int, expiry_ms: int, report: Report) -> Route:
        """Over our own channel with the payee."""
        channels = [each for each in map(self._channel, self._parts.book.live()) if each.record.peer == payee]
        usable = sorted((each.view().can_send, each.id) for each in channels if each.view().state == "open")
        if not usable:
            raise Refused(
                "no_route",
                f"no channel is open with the payee: `wallet channel open {format_address(payee)}@HOST:PORT --deposit "
                "AMOUNT`, with host and port from the payee",
            )
        can_send, group_id = usable[-1]
        if can_send < units:
            currency = self._parts.genesis.currency
            raise Refused(
                "insufficient_balance",
                f"the channel with the payee can send {format_money(can_send, currency)}, the invoice takes "
                f"{format_money(units, currency)}: `wallet channel top-up {group_id.hex()[:12]}`, or be paid first",
            )
        report(Progress("reaching the payee"))
        await next(each for each in channels if each.id == group_id).reach()
        return Route(group_id, (Hop(payee, units),), expiry_ms)

    def _channel(self, record: ChannelRecord) -> Channel:
        return Channel(self._parts, self._peers, self._follower, record.group_id)
