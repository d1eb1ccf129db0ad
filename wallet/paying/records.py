"""What a wallet keeps of each payment that it makes by locks: one record, with an attempt for each lock.

Every record is a whole value that is replaced; what it says goes forward only. Times of this machine are for people.

Source: docs/design/groups.md, rules 5, 20 and 23; decisions 038 and 042.
"""

from __future__ import annotations

from enum import StrEnum

from layer1.codec import Struct
from layer1.crypto import Hash, PublicKey
from wallet.invoices.invoice import Invoice
from wallet.onion.packet import Origin
from wallet.onion.route import Hop, Route


class Fate(StrEnum):
    """What became of a lock of ours, or of a payment."""

    PENDING = "pending"
    """It stands, or it is not known whether it does: never repeated meanwhile."""
    PAID = "paid"
    """The payee has shown the preimage."""
    FAILED = "failed"
    """It is gone for certain, and the money is back, or never left."""


class Kind(StrEnum):
    """What a payment is for."""

    INVOICE = "invoice"
    SPONTANEOUS = "spontaneous"
    """Nobody asked for it: the preimage is ours, and goes to the payee in its packet."""
    CIRCLE = "circle"
    """To ourselves, from one of our channels into another."""


class Step(Struct):
    """One lock on the way."""

    channel: Hash
    node: PublicKey
    """Who receives it."""
    amount: int
    """Minor units."""


class Attempt(Struct):
    """One lock of ours, and the path that it goes on: one part of a payment, once."""

    path: tuple[Step, ...]
    """From our own channel on; the last is received by the payee."""
    expiry_ms: int
    """Ledger clock, of every lock on the way (rule 22)."""
    session: bytes
    """Of its packet: reads the reason of a failure."""
    mark: bytes
    """32 bytes of its packet, by which our own offer is known again."""
    lock: int = 0
    """Its id in our channel; 0 until it stands."""
    fate: Fate = Fate.PENDING
    code: str = ""
    """Of a failure."""
    message: str = ""
    """Of a failure, for people."""
    place: int | None = None
    """Who refused: its number in the path, -1 for ourselves; None if nobody knows, or nobody did."""

    @property
    def group_id(self) -> Hash:
        """Our channel."""
        return self.path[0].channel

    @property
    def amount(self) -> int:
        """What we lock: the payee's part, and fees."""
        return self.path[0].amount

    @property
    def received(self) -> int:
        """Of it the payee's part."""
        return self.path[-1].amount

    @property
    def fee(self) -> int:
        """What the hops between keep."""
        return self.amount - self.received

    @property
    def origin(self) -> Origin:
        """Reads the reason of a failure."""
        return Origin(self.session, tuple(step.node for step in self.path))

    @property
    def route(self) -> Route:
        """As its packet was built."""
        return Route(self.group_id, tuple(Hop(step.node, step.amount) for step in self.path), self.expiry_ms)


class Payment(Struct, tag="payment/2"):
    """A payment of this wallet. There is one of each hash."""

    kind: Kind
    payment_hash: Hash
    payee: PublicKey
    amount: int
    """What the payee is to get, minor units."""
    max_fee: int
    """What all forwarders together may keep at most."""
    invoice: Invoice | None = None
    secret: bytes = b""
    """For the payee's layer of the onion: from its invoice; of a circle our own."""
    own_preimage: bytes = b""
    """32 bytes, of what nobody asked for: it is ours from the beginning."""
    attempts: tuple[Attempt, ...] = ()
    """The newest last."""
    preimage: bytes = b""
    """Shown by the payee; with the invoice the receipt."""
    last_channel: Hash = b""
    """Of a circle: the channel that it comes back by."""
    began_ms: int = 0
    """This machine's clock, ms since 1970."""
    changed_ms: int = 0

    @property
    def fate(self) -> Fate:
        """Of the payment as a whole, as far as this record tells: it may still be tried again."""
        if self.preimage or any(each.fate is Fate.PAID for each in self.attempts):
            return Fate.PAID
        return Fate.PENDING if self.unfinished else Fate.FAILED

    @property
    def unfinished(self) -> bool:
        """Whether a lock for it stands, or may."""
        return any(each.fate is Fate.PENDING for each in self.attempts)

    @property
    def live(self) -> tuple[Attempt, ...]:
        """Attempts that are paid, or may be."""
        return tuple(each for each in self.attempts if each.fate is not Fate.FAILED)

    @property
    def paid(self) -> int:
        """What has left us for good, fees included, minor units."""
        return sum(each.amount for each in self.attempts if each.fate is Fate.PAID)

    @property
    def fee(self) -> int:
        """What forwarders keep of what is paid or may be, minor units."""
        return sum(each.fee for each in self.live)
