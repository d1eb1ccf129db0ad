"""What a wallet keeps of each invoice: of its own, and of those that it pays.

Every record is a whole value that is replaced; what it says goes forward only. Times of this machine are for people.

Source: decision 038.
"""

from __future__ import annotations

from enum import StrEnum

from layer1.codec import Struct
from layer1.crypto import Hash
from wallet.invoices.invoice import Invoice
from wallet.onion.packet import Origin


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


class Fate(StrEnum):
    """What became of a lock of ours."""

    PENDING = "pending"
    """It stands, or it is not known whether it does: never repeated meanwhile."""
    PAID = "paid"
    """The payee has shown the preimage."""
    FAILED = "failed"
    """It is gone for certain, and the money is back, or never left."""


class Attempt(Struct):
    """One lock of ours for an invoice of somebody else."""

    group_id: Hash
    amount: int
    """That we lock: the payee's part, and fees."""
    received: int
    """Of it the payee's part."""
    expiry_ms: int
    origin: Origin
    """Reads the reason of a failure."""
    packet: bytes
    """By which our own offer is known again."""
    lock: int = 0
    """Its id; 0 until it stands."""
    fate: Fate = Fate.PENDING
    code: str = ""
    """Of a failure."""
    message: str = ""
    """Of a failure, for people."""


class Payment(Struct, tag="payment/1"):
    """An invoice of somebody else that this wallet pays. There is one of each hash."""

    invoice: Invoice
    amount: int
    """What the payee is to get."""
    attempts: tuple[Attempt, ...]
    """The newest last."""
    preimage: bytes = b""
    """With the invoice the receipt; empty until it was shown."""
    changed_ms: int = 0
    """This machine's clock at the last change, ms since 1970."""

    @property
    def payment_hash(self) -> Hash:
        """By which it is found."""
        return self.invoice.payment_hash

    @property
    def fate(self) -> Fate:
        """Of the payment as a whole."""
        if self.preimage or any(each.fate is Fate.PAID for each in self.attempts):
            return Fate.PAID
        return Fate.PENDING if self.unfinished else Fate.FAILED

    @property
    def unfinished(self) -> bool:
        """Whether a lock for it stands, or may."""
        return any(each.fate is Fate.PENDING for each in self.attempts)
