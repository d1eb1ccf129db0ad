"""Invoices of ours: made, held for their owner where that was wanted, settled, cancelled.

*Safety:* an invoice is durable before its text is shown; a standby has it by then.

Source: docs/design/groups.md, rules 20 to 23; decision 038; `wallet.invoices.collecting` takes what is paid for them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from layer1.crypto import HASH_BYTES, Hash
from layer1.errors import check
from wallet.invoices import receiving
from wallet.invoices.collecting import Collector
from wallet.invoices.gathering import PATIENCE_MS, latest_ms
from wallet.invoices.invoice import VERSION, Feature, Hint, Invoice, sign_invoice
from wallet.invoices.records import Issued
from wallet.onion.payload import PREIMAGE_BYTES, SECRET_BYTES

MOST_HINTS = 2
"""In an invoice of ours: each makes its text a third longer, and its QR code larger."""
LIFE_MS = 3_600_000
"""Of an invoice, unless its maker says otherwise."""
LOCK_MARGINS = 4
"""Of M: for how long a lock must be good when it arrives. It is what `Locking.begin` asks of an offer."""


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
    hints: bool = True
    """Whether it names neighbours over whom we are reached, for payers that have not heard of our channels."""


class Payee(Collector):
    """Of one open wallet."""

    hints: Callable[[], tuple[Hint, ...]] = tuple
    """Over whom we are reached, the best first."""

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
            lock_ms=(LOCK_MARGINS + 1) * self._locking.margin_ms + PATIENCE_MS + wanted.lock_ms,
            description=wanted.description,
            hints=self.hints()[:MOST_HINTS] if wanted.hints else (),
            features=tuple(Feature(name, required=False) for name in (["hold"] if wanted.hold else []) + ["parts"]),
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
        clock_ms = await self._now()
        self._write()
        self._write()
        held = self._book.find_issued(name)
        settled = receiving.settle(held, preimage)
        leaving = any(part.name in self._leaving for part in held.parts)
        check(not leaving, "too_late", "it is being given back to the payer, for it was not settled in time")
        for part in held.parts:
            over_ms = clock_ms - latest_ms(part, self._locking.margin_ms)
            check(over_ms <= 0, "too_late", f"it could be settled until {over_ms} ms ago: the payer gets it back")
        settled = self._save(settled)
        await self._parts.settled()
        self._pursue(settled)
        return settled

    async def cancel(self, name: str) -> Issued:
        """Take nothing for an invoice any more; what is held for it, or waits for other parts, goes back.

        Raises:
            Refused: ``unknown_invoice``, ``already_paid``.
        """
        self._write()
        self._write()
        cancelled = self._save(receiving.cancel(self._book.find_issued(name)))
        self._give_back_others(cancelled)
        await self._parts.settled()
        self._pursue(cancelled)
        return cancelled
