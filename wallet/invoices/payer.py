"""Invoices of others: paid once, whatever happens in between, and what proves it afterwards.

*Safety:* a payment is durable, and with the standby, before its lock is offered. While its fate is not known nothing is
offered for it again; paid is what a preimage shows, failed is what is gone for certain.

Source: docs/design/groups.md, rules 5, 20 and 23; decision 038.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from layer1.crypto import Hash, format_address
from layer1.errors import Refused, check
from layer1.ledger.agreements import Lock
from layer2.driver import Pending
from wallet.amounts import format_money
from wallet.history import now_ms
from wallet.invoices.book import InvoiceBook
from wallet.invoices.dealing import Dealer
from wallet.invoices.invoice import Invoice
from wallet.invoices.payee import LOCK_MARGINS
from wallet.invoices.records import Attempt, Fate, Payment
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.errors import OnionError
from wallet.onion.failure import Code, unwrap
from wallet.onion.packet import Binding, build
from wallet.onion.route import Route
from wallet.onion.shared import KEY_BYTES
from wallet.parts import Parts
from wallet.requests import Progress, Report
from wallet.views import open_commands

WAIT_S = 60.0
"""How long a caller waits for the payee; a hold invoice may take longer."""
LOOK_S = 1.0
"""Between looks at what is pending."""
WORDS = {
    Code.UNKNOWN_PAYMENT: "the payee does not take it: it has no such invoice open (paid, cancelled, expired), or not "
    "for this amount. Ask it for another invoice",
    Code.EXPIRES_TOO_SOON: "the lock would not have been good for long enough when it arrived: try again",
    Code.UNKNOWN_NEXT: "it has no channel with the next hop, or one that is closing",
    Code.NEXT_REFUSED_PACKET: "the hop behind it could not open its packet",
}
"""What people read of a failure; of others its code."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Paying:
    """A payment as its caller sees it."""

    payment: Payment
    repeated: bool
    """Whether it had been paid, or was under way, before this call."""


class Payer(Dealer):
    """Deals with locks that go out."""

    def __init__(self, parts: Parts, locking: Locking, book: InvoiceBook, clock_ms: Callable[[], int | None]) -> None:
        super().__init__(parts, locking, clock_ms)
        self._book = book
        self._missing: set[bytes] = set()
        """Packets of which nothing was to be seen at the last look."""

    def start(self) -> None:
        """Look after what was under way when the wallet was closed."""
        for group_id, ended in self._locking.ends():
            self.lose(group_id, ended)
        self._begin(self._watch())

    def check(self, invoice: Invoice, amount: int | None) -> int:
        """What to pay, in units, if the invoice is for this wallet to pay.

        Raises:
            Refused: ``wrong_chain``, ``own_invoice``, ``amount_needed``, ``wrong_amount``, ``bad_amount``.
        """
        chain_id, currency = self._parts.genesis.chain_id, self._parts.genesis.currency
        if invoice.chain_id != chain_id:
            raise Refused("wrong_chain", f"it is of chain {invoice.chain_id.hex()}, this wallet of {chain_id.hex()}")
        if invoice.payee == self._parts.keys.spending.public:
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

    def known(self, invoice: Invoice) -> Payment | None:
        """What became of it so far; None if nothing is in the way of paying it.

        Raises:
            Refused: ``other_invoice``; another invoice with this hash was paid, or is being paid.
        """
        found = self._book.payment(invoice.payment_hash)
        if found is None or found.fate is Fate.FAILED:
            return None
        if found.invoice != invoice:
            raise Refused(
                "other_invoice",
                f"this wallet pays, or paid, another invoice with hash {invoice.payment_hash.hex()}: who knows its "
                "preimage could take this payment. Ask the payee for a new invoice",
            )
        return found

    async def check_time(self, invoice: Invoice) -> int:
        """Until when a lock for it should be good; ledger clock.

        Raises:
            Refused: ``invoice_expired``.
            LedgerUnreachable: The ledger's clock is not known.
        """
        clock_ms = max(await self._parts.ledger.clock(), self._clock_ms() or 0)
        if clock_ms > invoice.expires_ms:
            raise Refused(
                "invoice_expired",
                f"the invoice was good until ledger clock {invoice.expires_ms} ms, and it is {clock_ms} ms: ask for "
                "another",
            )
        return clock_ms + max(invoice.lock_ms, LOCK_MARGINS * self._locking.margin_ms) + self._locking.margin_ms

    async def send(self, invoice: Invoice, amount: int, route: Route, report: Report) -> Payment:
        """Offer a lock for an invoice along a route; on return it stands, or is refused, or nobody knows.

        Raises:
            Refused: As `known`; or it was not offered, and the reason.
        """
        binding = Binding(invoice.chain_id, invoice.payment_hash, route.expiry_ms)
        session = os.urandom(KEY_BYTES)
        packet, origin = build(route, binding, session, total=amount, payment_secret=invoice.payment_secret)
        attempt = Attempt(route.group_id, route.sent, route.received, route.expiry_ms, origin, packet)
        if (found := self.known(invoice)) is not None:
            return found
        before = self._book.payment(invoice.payment_hash)
        earlier = before.attempts if before is not None and before.invoice == invoice else ()
        self._save(Payment(invoice, amount, (*earlier, attempt)))
        await self._parts.settled()
        report(Progress("offering the payment"))
        try:
            lock = await self._locking.begin(route.group_id, route.sent, invoice.payment_hash, route.expiry_ms, packet)
        except Refused as refusal:
            self._end(attempt, invoice.payment_hash, refusal.code, refusal.message)
            raise
        except Pending as pending:
            _log.info("channel %s: %s", route.group_id.hex()[:12], pending)
        else:
            self._stands(lock.id, attempt, invoice.payment_hash)
        return self._current(invoice.payment_hash)

    async def until_decided(self, payment_hash: Hash, wait_s: float, report: Report) -> Payment:
        """The payment when its fate is known, or after so long."""
        report(Progress("waiting for the payee"))
        decided = lambda: found if (found := self._current(payment_hash)).fate is not Fate.PENDING else None  # noqa: E731
        return await self._parts.signals.until(decided, wait_s) or self._current(payment_hash)

    def shown(self, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        """The payee shows the preimage, whether or not its claim is committed yet: the invoice is paid."""
        for payment, attempt in self._of(group_id, lock):
            self._put(structs.replace(payment, preimage=preimage), attempt, structs.replace(attempt, lock=lock.id))

    def lose(self, group_id: Hash, ended: Ended) -> None:
        """A lock is gone; it may have been ours for an invoice."""
        for payment, before in self._of(group_id, ended.lock):
            attempt = structs.replace(before, lock=ended.lock.id)
            if ended.is_paid:
                preimage = ended.preimage or payment.preimage
                self._put(structs.replace(payment, preimage=preimage), before, structs.replace(attempt, fate=Fate.PAID))
            elif ended.how == "released":
                self._end(attempt, payment.invoice.payment_hash, *self._told(attempt, ended.reason))
            else:
                text = "the payee did not take it in time; the money is back"
                self._end(attempt, payment.invoice.payment_hash, "expired", text)

    def _of(self, group_id: Hash, lock: Lock) -> list[tuple[Payment, Attempt]]:
        """The attempt that made a lock: known by its id, or, if we stopped before we knew that, by its terms."""
        payment = self._book.payment(lock.hash)
        for attempt in payment.attempts if payment is not None else ():
            same = attempt.group_id == group_id and attempt.fate is Fate.PENDING
            terms = (attempt.amount, attempt.expiry_ms) == (lock.amount, lock.expiry_ms)
            if payment is not None and same and (attempt.lock == lock.id or (not attempt.lock and terms)):
                return [(payment, attempt)]
        return []

    def _stands(self, number: int, attempt: Attempt, payment_hash: Hash) -> None:
        """The lock of an attempt has a name now; by now it may have ended, too."""
        payment = self._current(payment_hash)
        if any(each.packet == attempt.packet and not each.lock for each in payment.attempts):
            self._put(payment, attempt, structs.replace(attempt, lock=number))

    def _told(self, attempt: Attempt, reason: bytes) -> tuple[str, str]:
        """A failure's code, and who said what."""
        try:
            told = unwrap(attempt.origin, reason)
        except OnionError as error:
            return "unreadable_failure", f"{error}; the money is back"
        code = told.failure.code
        last = told.place == len(attempt.origin.nodes) - 1
        who = "the payee" if last else f"hop {told.place + 1}, {format_address(told.node)}"
        return code.value, f"{who} says {code.value}: {WORDS.get(code, 'try again')}. The money is back"

    async def _watch(self) -> None:
        """See what was never offered, and what stands though we stopped before we knew its name."""
        while True:
            for payment in self._book.pending():
                for attempt in payment.attempts:
                    if attempt.fate is Fate.PENDING and not attempt.lock:
                        self._look(payment, attempt)
            await asyncio.sleep(LOOK_S)

    def _look(self, payment: Payment, attempt: Attempt) -> None:
        payment_hash = payment.invoice.payment_hash
        for group_id, lock in self._locking.outgoing():
            if lock.hash == payment_hash and self._of(group_id, lock):
                return self._stands(lock.id, attempt, payment_hash)
        if self._is_on_its_way(attempt):
            self._missing.discard(attempt.packet)
        elif attempt.packet in self._missing:
            self._missing.discard(attempt.packet)
            self._end(attempt, payment_hash, "not_offered", "it was never offered; no money has moved")
        else:
            self._missing.add(attempt.packet)  # what is being told just now is known by the next look
        return None

    def _is_on_its_way(self, attempt: Attempt) -> bool:
        """Whether an offer that does not stand yet may still be made."""
        group = self._parts.host.groups.get(attempt.group_id)
        if group is None or not group.informed:
            return True
        return any(attempt.packet in command.payload for command in open_commands(group))

    def _end(self, attempt: Attempt, payment_hash: Hash, code: str, message: str) -> None:
        """An attempt has failed for certain."""
        failed = structs.replace(attempt, fate=Fate.FAILED, code=code, message=message)
        self._put(self._current(payment_hash), attempt, failed)

    def _put(self, payment: Payment, before: Attempt, after: Attempt) -> None:
        attempts = tuple(after if each.packet == before.packet else each for each in payment.attempts)
        self._save(structs.replace(payment, attempts=attempts))

    def _save(self, payment: Payment) -> None:
        self._book.put(structs.replace(payment, changed_ms=now_ms()))
        self._parts.signals.notify()

    def _current(self, payment_hash: Hash) -> Payment:
        found = self._book.payment(payment_hash)
        assert found is not None, "it was entered before it was offered"
        return found
