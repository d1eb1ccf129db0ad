"""Whether a lock pays us, for an invoice or without one: the payee's half, without I/O.

*Safety:* a preimage leaves only for locks that add up to what the invoice asks for and to what each of them names,
which carry the invoice's secret, while the invoice is open and there is time left to claim all of them; and for one
payment of each hash.

A payer that is refused learns :attr:`Code.UNKNOWN_PAYMENT` whatever the reason: who has the hash alone, like a hop on a
route, learns nothing from the answer.

Source: docs/design/groups.md, rules 20 to 22; decisions 038, 042; BOLT 4, "Requirements for the final node".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from msgspec import structs

from layer1.crypto import Hash
from layer1.errors import check
from layer1.ledger.locks import preimage_hash
from wallet.invoices import gathering
from wallet.invoices.gathering import CLAIM_MARGINS, MAX_PARTS, Gathering, Waiting
from wallet.invoices.receipt import check_preimage
from wallet.invoices.records import Gift, Incoming, Issued, Stage
from wallet.onion.failure import Code
from wallet.onion.payload import Final, Spontaneous

MOST_TIMES = 2
"""What may be paid at most, in multiples of what was asked: a payer may add something, and a mistake is sent back."""
R = TypeVar("R", bound=Issued | Gift)


@dataclass(frozen=True, slots=True)
class Turned:
    """A lock that is not taken."""

    code: Code
    why: str
    """For this wallet's log; the payer gets the code alone."""


@dataclass(frozen=True, slots=True)
class Waits:
    """A lock that is taken together with others, or not at all."""

    waiting: Waiting
    """What there is of its hash, with it."""


@dataclass(frozen=True, slots=True)
class Circle:
    """What we pay to ourselves, from one of our channels into another."""

    secret: bytes
    """For our layer of its onion. A hop knows the hash, and could offer us a unit for a preimage worth all of it."""
    amount: int
    """What is to come back, minor units."""
    preimage: bytes
    channel: Hash
    """Of ours that it is to come back by: another one would not help."""


def receive(
    issued: Issued | None,
    final: Final,
    part: Incoming,
    clock_ms: int,
    *,
    waiting: Waiting = (),
    margin_ms: int = 0,
) -> Issued | Waits | Turned:
    """What a committed lock does to the invoice of its hash.

    Args:
        issued: The invoice; None if none of ours has the lock's hash.
        final: Our layer of the onion.
        part: The lock.
        clock_ms: Newest proven ledger clock.
        waiting: Parts of payments of this hash that are not complete.
        margin_ms: M of rule 22.

    Returns:
        The invoice with all locks of the payment, to be made durable before anything is claimed; or what waits for the
        other parts; or why the lock is released.
    """
    if issued is None:
        return Turned(Code.UNKNOWN_PAYMENT, "no invoice has this hash")
    if known(issued, part):
        return issued
    if gathering.holds(waiting, part):
        return Waits(waiting)
    payment = gathering.grow(waiting, part, final.total, clock_ms)
    why = _fault(issued, final, payment, clock_ms)
    if why:
        return Turned(Code.UNKNOWN_PAYMENT, why)
    if clock_ms + max(issued.invoice.lock_ms, CLAIM_MARGINS * margin_ms) > part.expiry_ms:
        return Turned(
            Code.EXPIRES_TOO_SOON, f"good for {part.expiry_ms - clock_ms} ms, asked: {issued.invoice.lock_ms}"
        )
    if not gathering.is_complete(payment, clock_ms, margin_ms):
        return _wait(waiting, payment)
    stage = Stage.HELD if issued.hold else Stage.CLAIMING
    return structs.replace(issued, stage=stage, parts=payment.parts, total=payment.total)


def receive_gift(
    gift: Gift | None,
    spontaneous: Spontaneous,
    payment_hash: Hash,
    part: Incoming,
    clock_ms: int,
    *,
    waiting: Waiting = (),
    margin_ms: int = 0,
) -> Gift | Waits | Turned:
    """What a committed lock does that pays without an invoice; arguments and answers as of :func:`receive`.

    Its preimage came with it. It is taken in parts like any other: who takes a part of it has no part of a payment.
    """
    if gift is not None and known(gift, part):
        return gift
    if gathering.holds(waiting, part):
        return Waits(waiting)
    if preimage_hash(spontaneous.preimage) != payment_hash:
        return Turned(Code.UNKNOWN_SPONTANEOUS, "its preimage is that of another hash")
    if gift is not None:
        return Turned(Code.UNKNOWN_SPONTANEOUS, "a payment of this hash was taken before")
    payment = gathering.grow(waiting, part, spontaneous.total, clock_ms)
    if part.amount < spontaneous.amount or payment.units > MOST_TIMES * payment.total:
        return Turned(Code.UNKNOWN_SPONTANEOUS, f"{part.amount} units of {spontaneous.amount}, {payment.total} in all")
    if clock_ms > gathering.latest_ms(part, margin_ms):
        return Turned(Code.EXPIRES_TOO_SOON, f"good for {part.expiry_ms - clock_ms} ms")
    if not gathering.is_complete(payment, clock_ms, margin_ms):
        return _wait(waiting, payment)
    return Gift(payment_hash, spontaneous.preimage, Stage.CLAIMING, payment.parts, payment.total)


def receive_circle(
    circle: Circle,
    gift: Gift | None,
    final: Final,
    part: Incoming,
    clock_ms: int,
    *,
    waiting: Waiting = (),
    margin_ms: int = 0,
) -> Gift | Waits | Turned:
    """What a committed lock does that comes back to us in a circle; arguments and answers as of :func:`receive`."""
    if final.payment_secret != circle.secret or final.total < circle.amount:
        return Turned(Code.UNKNOWN_PAYMENT, f"not the circle that we pay, of {circle.amount} units")
    if part.group_id != circle.channel:
        return Turned(Code.UNKNOWN_PAYMENT, f"a circle is to come back by channel {circle.channel.hex()[:12]}")
    told, payment_hash = Spontaneous(final.amount, final.total, circle.preimage), preimage_hash(circle.preimage)
    answer = receive_gift(gift, told, payment_hash, part, clock_ms, waiting=waiting, margin_ms=margin_ms)
    return structs.replace(answer, ours=True) if isinstance(answer, Gift) else answer


def known(record: Issued | Gift, part: Incoming) -> bool:
    """Whether this very lock was taken before: news come twice after a crash."""
    return any(each.name == part.name for each in record.parts)


def claimed(record: R, part: Incoming) -> R:
    """A lock of it was claimed. It is paid when all were.

    Somebody else may have known the preimage of what is held, and registered it: then it is given away.
    """
    if record.stage is Stage.HELD:
        record = structs.replace(record, stage=Stage.CLAIMING)
    return _ended(record, part, record.received + part.amount)


def lapsed(record: R, part: Incoming) -> R:
    """A lock of it is gone, and was not claimed: it was released, or it expired.

    What is held is no payment any more without one of its parts: the others are no longer here, and go back.
    """
    if record.stage is Stage.HELD:
        return structs.replace(record, stage=Stage.OPEN, parts=(), total=0)
    return _ended(record, part, record.received)


def settle(issued: Issued, preimage: bytes = b"") -> Issued:
    """Its owner wants what is held.

    Raises:
        Refused: ``not_held``, ``preimage_needed``, ``bad_receipt``.
    """
    check(issued.stage is Stage.HELD, "not_held", f"the invoice is {issued.stage}: only what is held can be settled")
    found = preimage or issued.preimage
    check(bool(found), "preimage_needed", "this invoice was made with a hash alone: give its preimage by --preimage")
    check_preimage(issued.invoice.payment_hash, found)
    return structs.replace(issued, stage=Stage.CLAIMING, preimage=found)


def cancel(issued: Issued) -> Issued:
    """Its owner wants nothing of it any more.

    Raises:
        Refused: ``already_paid``; the preimage has left.
    """
    gone = issued.stage in (Stage.CLAIMING, Stage.PAID)
    check(not gone, "already_paid", "the invoice is paid: its preimage was given away, and nothing takes it back")
    return structs.replace(issued, stage=Stage.CANCELLED)


def _ended(record: R, part: Incoming, received: int) -> R:
    rest = tuple(each for each in record.parts if each != part)
    stage = record.stage
    if stage is Stage.CLAIMING and not rest:
        stage = Stage.PAID if 0 < record.total <= received else Stage.MISSED
    return structs.replace(record, stage=stage, parts=rest, received=received)


def _wait(waiting: Waiting, payment: Gathering) -> Waits | Turned:
    count = len(gathering.parts_of(waiting))
    if count >= MAX_PARTS:
        return Turned(Code.BUSY, f"{count} parts of this hash wait, the most that may")
    return Waits(gathering.kept(waiting, payment))


def _fault(issued: Issued, final: Final, payment: Gathering, clock_ms: int) -> str:
    """What is wrong with a payment, of which the last part came just now; empty if nothing is."""
    invoice, asked, part = issued.invoice, issued.invoice.amount or 1, payment.parts[-1]
    most = MOST_TIMES * (invoice.amount or payment.total)
    if final.payment_secret != invoice.payment_secret:
        return "another payment secret"
    if issued.stage is not Stage.OPEN:
        return f"the invoice is {issued.stage}"
    if clock_ms > invoice.expires_ms and len(payment.parts) == 1:
        return f"the invoice expired at {invoice.expires_ms}, it is {clock_ms}"
    if part.amount < final.amount:
        return f"{part.amount} units of {final.amount}"
    if payment.total < asked:
        return f"{payment.total} units in all, {asked} were asked for"
    if max(payment.units, payment.total) > most:
        return (
            f"{max(payment.units, payment.total)} units, at most {MOST_TIMES} times what was asked for is taken: {most}"
        )
    return ""
