"""Invoices of ours: made, paid by others, claimed; held for their owner where that was wanted.

*Safety:* an invoice is durable before its text is shown, and what a lock did to it before the lock is claimed or
released; a standby has both by then. A preimage leaves by a `Claim` alone.

Which locks are for this wallet `wallet.switchboard` tells; what is for no invoice of ours is released.

Source: docs/design/groups.md, rules 20 to 23; decision 038; `wallet.invoices.receiving` decides, this carries.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass

from msgspec import structs

from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import check
from layer1.ledger.agreements import Lock
from wallet.history import now_ms
from wallet.invoices import receiving
from wallet.invoices.book import InvoiceBook
from wallet.invoices.dealing import Dealer
from wallet.invoices.invoice import VERSION, Invoice, sign_invoice
from wallet.invoices.records import Incoming, Issued, Stage
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.failure import Code, Failure, wrap
from wallet.onion.packet import Peeled
from wallet.onion.payload import PREIMAGE_BYTES, SECRET_BYTES, Final
from wallet.parts import Parts

LIFE_MS = 3_600_000
"""Of an invoice, unless its maker says otherwise."""
LOOK_S = 1.0
"""Between looks at what is held: whether its time runs out."""
CLAIM_MARGINS = 3
"""Of M (rule 22): what is left of a lock when it is claimed at the latest, so that the claim needs no layer 1."""
LOCK_MARGINS = 4
"""Of M: for how long a lock must be good when it arrives. It is what `Locking.begin` asks of an offer."""
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What an invoice is to say."""

    amount: int | None
    """Units; None leaves it to the payer."""
    description: str = ""
    life_ms: int = LIFE_MS
    lock_ms: int = 0
    """For how long a lock must be good when it arrives, beyond what it takes to claim it in any case."""
    hold: bool = False
    """Claim nothing before its owner settles it."""
    payment_hash: Hash = b""
    """Of a preimage that its owner has, or will get; empty for a fresh one."""


class Payee(Dealer):
    """Deals with locks that come in."""

    def __init__(self, parts: Parts, locking: Locking, book: InvoiceBook, clock_ms: Callable[[], int | None]) -> None:
        super().__init__(parts, locking, clock_ms)
        self._book = book

    def start(self) -> None:
        """Take up what was under way when the wallet was closed."""
        for issued in self._book.unfinished():
            for part in issued.parts:
                if (ended := self._locking.ended(part.group_id, part.lock)) is not None:
                    self.lose(part.group_id, ended)
        self._begin(self._watch())

    async def create(self, wanted: Wanted) -> Issued:
        """Make an invoice; whoever gets its text may pay it.

        Raises:
            Refused: ``bad_invoice``, ``invoice_exists``, ``bad_usage``.
            LedgerUnreachable: The ledger's clock is not known, and the invoice is to end by it.
        """
        check(not wanted.payment_hash or wanted.hold, "bad_usage", "a hash without its preimage is for --hold only")
        size = len(wanted.payment_hash)
        check(size in (0, HASH_BYTES), "bad_usage", f"a payment hash has {HASH_BYTES} bytes, this one {size}")
        preimage = b"" if wanted.payment_hash else os.urandom(PREIMAGE_BYTES)
        payment_hash = wanted.payment_hash or hashlib.sha256(preimage).digest()
        known = self._book.issued(payment_hash) is not None
        check(not known, "invoice_exists", f"there is an invoice with hash {payment_hash.hex()}: a hash is used once")
        clock_ms = self._clock_ms() or await self._parts.ledger.clock()
        invoice = Invoice(
            version=VERSION,
            chain_id=self._parts.genesis.chain_id,
            payee=self._parts.keys.spending.public,
            payment_hash=payment_hash,
            payment_secret=os.urandom(SECRET_BYTES),
            amount=wanted.amount,
            created_ms=clock_ms,
            expires_ms=clock_ms + wanted.life_ms,
            lock_ms=LOCK_MARGINS * self._locking.margin_ms + wanted.lock_ms,
            description=wanted.description,
            hints=(),
            features=(),
            signature=b"",
        )
        issued = self._save(Issued(sign_invoice(self._parts.keys.spending, invoice), wanted.hold, preimage))
        await self._parts.settled()
        return issued

    async def settle(self, name: str, preimage: bytes = b"") -> Issued:
        """Claim what is held for an invoice; on return the claim is on its way.

        Raises:
            Refused: ``unknown_invoice``, ``not_held``, ``too_late``, ``preimage_needed``, ``bad_receipt``.
        """
        clock_ms = await self._clock()
        held = self._book.find_issued(name)
        settled = receiving.settle(held, preimage)
        for part in held.parts:
            over_ms = clock_ms - self._latest(part)
            check(over_ms <= 0, "too_late", f"it could be settled until {over_ms} ms ago: the payer gets it back")
        settled = self._save(settled)
        await self._parts.settled()
        await self._pursue(settled)
        return settled

    async def cancel(self, name: str) -> Issued:
        """Take nothing for an invoice any more; what is held for it goes back.

        Raises:
            Refused: ``unknown_invoice``, ``already_paid``.
        """
        cancelled = self._save(receiving.cancel(self._book.find_issued(name)))
        await self._parts.settled()
        await self._pursue(cancelled)
        return cancelled

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        """A committed lock is for this wallet: its packet says so. Told again after a start, while the lock stands."""
        self._begin(self._take(group_id, lock, peeled))

    async def _take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        clock_ms = await self._clock()
        if self._lock(group_id, lock.id) is None:
            return
        if isinstance(peeled.payload, Final):
            part = Incoming(group_id, lock.id, lock.amount, lock.expiry_ms, peeled.secret)
            before = self._book.issued(lock.hash)
            answer = receiving.receive(before, peeled.payload, part, clock_ms)
            if isinstance(answer, Issued):
                if answer != before:
                    self._save(answer)
                await self._pursue(answer)
                return
            _log.info("channel %s, lock %d is released: %s", group_id.hex()[:12], lock.id, answer.why)
            code = answer.code
        else:
            code = Code.UNKNOWN_SPONTANEOUS
        await self._refuse(group_id, lock.id, wrap(peeled.secret, Failure(code)))

    def lose(self, group_id: Hash, ended: Ended) -> None:
        """A lock is gone; it may have been for an invoice of ours."""
        issued = self._book.issued(ended.lock.hash)
        for part in issued.parts if issued is not None else ():
            if issued is not None and (part.group_id, part.lock) == (group_id, ended.lock.id):
                self._save(receiving.claimed(issued, part) if ended.is_paid else receiving.lapsed(issued, part))

    async def _pursue(self, issued: Issued) -> None:
        """Do what is due for its locks."""
        for part in issued.parts:
            if self._lock(part.group_id, part.lock) is None:
                continue
            if issued.stage is Stage.CLAIMING:
                await self._locking.claim(part.group_id, part.lock, issued.preimage)
            elif issued.stage is Stage.CANCELLED:
                self._begin(self._refuse(part.group_id, part.lock, _declined(part)))

    async def _watch(self) -> None:
        """Give back what nobody settled while there was time."""
        refused: set[tuple[Hash, int]] = set()
        while True:
            clock_ms = await self._clock()
            for issued in self._book.unfinished():
                for part in issued.parts if issued.stage is Stage.HELD else ():
                    name = (part.group_id, part.lock)
                    if clock_ms > self._latest(part) and name not in refused:
                        refused.add(name)
                        self._begin(self._refuse(part.group_id, part.lock, _declined(part)))
            await asyncio.sleep(LOOK_S)

    def _latest(self, part: Incoming) -> int:
        """Ledger clock until which a lock can be claimed without layer 1."""
        return part.expiry_ms - CLAIM_MARGINS * self._locking.margin_ms

    def _save(self, issued: Issued) -> Issued:
        saved = structs.replace(issued, changed_ms=now_ms())
        self._book.put(saved)
        self._parts.signals.notify()
        return saved


def _declined(part: Incoming) -> bytes:
    return wrap(part.secret, Failure(Code.UNKNOWN_PAYMENT))
