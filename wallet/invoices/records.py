"""What a wallet keeps of each invoice of its own; of what it pays, `wallet.paying.records`.

Every record is a whole value that is replaced; what it says goes forward only. Times of this machine are for people.

Source: decision 038.
"""

from __future__ import annotations

from enum import StrEnum

from layer1.codec import Struct
from layer1.crypto import Hash
from wallet.invoices.invoice import Invoice


class Stage(StrEnum):
    """How far an invoice of ours is."""

    OPEN = "open"
    """Nobody has paid, or not all parts are here. Whether it has expired, the ledger clock says."""
    HELD = "held"
    """All locks for it are here, and its owner has not decided: a hold invoice."""
    CLAIMING = "claiming"
    """The preimage is on its way: it is paid, or will be on layer 1."""
    PAID = "paid"
    CANCELLED = "cancelled"
    MISSED = "missed"
    """Its preimage may have left, and a lock was gone before it was claimed."""


class Incoming(Struct):
    """A lock that pays an invoice of ours."""

    group_id: Hash
    lock: int
    """Its id in the channel."""
    amount: int
    expiry_ms: int
    """Ledger clock."""
    secret: bytes
    """Of our layer of its onion: wraps the reason if it is released."""

    @property
    def name(self) -> tuple[Hash, int]:
        """Which lock it is: ids are never used twice in a channel."""
        return self.group_id, self.lock


class Issued(Struct, tag="invoice/2"):
    """An invoice of ours."""

    invoice: Invoice
    hold: bool
    """Its owner decides: `wallet invoice settle` or `cancel`."""
    preimage: bytes
    """32 bytes; empty where it is not ours to know before the invoice is settled."""
    stage: Stage = Stage.OPEN
    parts: tuple[Incoming, ...] = ()
    """All locks of the payment that is held, or being claimed."""
    total: int = 0
    """Units that this payment named."""
    received: int = 0
    """Units that were claimed."""
    changed_ms: int = 0
    """This machine's clock at the last change, ms since 1970."""

    @property
    def payment_hash(self) -> Hash:
        """By which it is found."""
        return self.invoice.payment_hash

    @property
    def unfinished(self) -> bool:
        """Whether locks for it stand, as far as is known here."""
        return bool(self.parts)


class Gift(Struct, tag="spontaneous/1"):
    """A payment to us that nobody asked for by an invoice. There is one of each hash."""

    payment_hash: Hash
    preimage: bytes
    """The payer's, who sent it along."""
    stage: Stage
    """From CLAIMING on."""
    parts: tuple[Incoming, ...]
    """Its locks that are being claimed."""
    total: int
    received: int = 0
    """Units that were claimed."""
    ours: bool = False
    """Whether we paid it ourselves, in a circle: then it is no income."""
    changed_ms: int = 0
    """This machine's clock at the last change, ms since 1970."""

    @property
    def unfinished(self) -> bool:
        """Whether locks of it stand, as far as is known here."""
        return bool(self.parts)
