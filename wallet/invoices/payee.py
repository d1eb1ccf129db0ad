"""Invoices of ours: made, paid by others, claimed; held for their owner where that was wanted.

*Safety:* an invoice is durable before its text is shown, and what a lock did to it before the lock is claimed or
released; a standby has both by then. A preimage leaves by a `Claim` alone.

A lock that is not for an invoice of ours is for the next hop (`on_forward`) or is released.

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
from layer1.errors import Refused, check
from layer1.ledger.agreements import Lock
from layer2.driver import Pending
from wallet.history import now_ms
from wallet.invoices import receiving
from wallet.invoices.book import InvoiceBook
from wallet.invoices.dealing import Dealer
from wallet.invoices.invoice import VERSION, Invoice, sign_invoice
from wallet.invoices.records import Incoming, Issued, Stage
from wallet.lock_news import Ended
from wallet.locking import Locking
from wallet.onion.errors import BadPayload, OnionError
from wallet.onion.failure import Code, Failure, wrap
from wallet.onion.packet import Binding, Peeled, peel
from wallet.onion.payload import PREIMAGE_BYTES, SECRET_BYTES, Final, Spontaneous
from wallet.parts import Parts

LIFE_MS = 3_600_000
"""Of an invoice, unless its maker says otherwise."""
LOOK_S = 1.0
"""Between looks at what is held: whether its time runs out."""
RETRY_S = 1.0
"""After a release was refused, that may be taken later: the channel is busy, or away."""
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
        self.on_forward: Callable[[Hash, Lock, Peeled], bool] = lambda group_id, lock, peeled: False
        """Told of a lock for somebody else; whether it takes care of it."""

    def start(self) -> None:
        """Take up what was under way when the wallet was closed."""
        for issued in self._book.unfinished():
            for part in issued.parts:
                if (ended := self._locking.ended(part.group_id, part.lock)) is not None:
                    self.lose(part.group_id, ended)
        for group_id, lock, packet in self._locking.incoming():
            self.offered(group_id, lock, packet)
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

    def offered(self, group_id: Hash, lock: Lock, packet: bytes) -> None:
        """A lock for us is committed."""
        self._begin(self._receive(group_id, lock, packet))

    async def _receive(self, group_id: Hash, lock: Lock, packet: bytes) -> None:
        clock_ms = await self._clock()
        if self._lock(group_id, lock.id) is None:
            return
        try:
            peeled = peel(
                self._parts.keys.spending, packet, Binding(self._parts.genesis.chain_id, lock.hash, lock.expiry_ms)
            )
        except BadPayload as error:
            await self._refuse(group_id, lock.id, wrap(error.secret, Failure(Code.BAD_PAYLOAD)))
        except OnionError as error:
            _log.info("channel %s, lock %d: %s", group_id.hex()[:12], lock.id, error)
            await self._refuse(group_id, lock.id, b"")
        else:
            await self._decide(group_id, lock, peeled, clock_ms)

    async def _decide(self, group_id: Hash, lock: Lock, peeled: Peeled, clock_ms: int) -> None:
        match peeled.payload:
            case Final():
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
            case Spontaneous():
                code = Code.UNKNOWN_SPONTANEOUS
            case _:
                if self.on_forward(group_id, lock, peeled):
                    return
                code = Code.UNKNOWN_NEXT
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

    async def _refuse(self, group_id: Hash, number: int, reason: bytes) -> None:
        """Release a lock, however long it takes."""
        while self._lock(group_id, number) is not None:
            try:
                await self._locking.release(group_id, number, reason)
            except (Refused, Pending) as error:
                _log.debug("channel %s, lock %d: %s", group_id.hex()[:12], number, error)
                await asyncio.sleep(RETRY_S)

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
