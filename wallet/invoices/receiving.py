"""Whether a lock pays an invoice of ours: the payee's half, without I/O.

*Safety:* a preimage leaves only for a lock of at least what the invoice asks for, which carries the invoice's secret,
while the invoice is open and there is time left to claim; and for one payment of each invoice.

A payer that is refused learns :attr:`Code.UNKNOWN_PAYMENT` whatever the reason: who has the hash alone, like a hop on a
route, learns nothing from the answer.

Source: docs/design/groups.md, rules 20 to 22; decision 038; BOLT 4, "Requirements for the final node".
"""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import structs

from layer1.errors import check
from wallet.invoices.receipt import check_preimage
from wallet.invoices.records import Incoming, Issued, Stage
from wallet.onion.failure import Code
from wallet.onion.payload import Final

MOST_TIMES = 2
"""What may be paid at most, in multiples of what was asked: a payer may add something, and a mistake is sent back."""


@dataclass(frozen=True, slots=True)
class Turned:
    """A lock that is not taken."""

    code: Code
    why: str
    """For this wallet's log; the payer gets the code alone."""


def receive(issued: Issued | None, final: Final, part: Incoming, clock_ms: int) -> Issued | Turned:
    """What a committed lock does to the invoice of its hash.

    Args:
        issued: The invoice; None if none of ours has the lock's hash.
        final: Our layer of the onion.
        part: The lock.
        clock_ms: Newest proven ledger clock.

    Returns:
        The invoice with the lock, to be made durable before anything is claimed; or why the lock is released.
    """
    if issued is None:
        return Turned(Code.UNKNOWN_PAYMENT, "no invoice has this hash")
    if known(issued, part):
        return issued
    why = _fault(issued, final, part, clock_ms)
    if why:
        return Turned(Code.UNKNOWN_PAYMENT, why)
    if clock_ms + issued.invoice.lock_ms > part.expiry_ms:
        return Turned(
            Code.EXPIRES_TOO_SOON, f"good for {part.expiry_ms - clock_ms} ms, asked: {issued.invoice.lock_ms}"
        )
    stage = Stage.HELD if issued.hold else Stage.CLAIMING
    return structs.replace(issued, stage=stage, parts=(part,))


def known(issued: Issued, part: Incoming) -> bool:
    """Whether this very lock was taken before: news come twice after a crash."""
    return any((each.group_id, each.lock) == (part.group_id, part.lock) for each in issued.parts)


def claimed(issued: Issued, part: Incoming) -> Issued:
    """A lock of it was claimed."""
    rest = tuple(each for each in issued.parts if each != part)
    return structs.replace(issued, stage=Stage.PAID, parts=rest, received=issued.received + part.amount)


def lapsed(issued: Issued, part: Incoming) -> Issued:
    """A lock of it is gone, and was not claimed: it was released, or it expired."""
    rest = tuple(each for each in issued.parts if each != part)
    after = {Stage.HELD: Stage.OPEN, Stage.CLAIMING: Stage.MISSED}.get(issued.stage, issued.stage)
    return structs.replace(issued, stage=issued.stage if rest else after, parts=rest)


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


def _fault(issued: Issued, final: Final, part: Incoming, clock_ms: int) -> str:
    """What is wrong with a payment; empty if nothing is."""
    invoice, asked = issued.invoice, issued.invoice.amount or 1
    if final.payment_secret != invoice.payment_secret:
        return "another payment secret"
    if issued.stage is not Stage.OPEN:
        return f"the invoice is {issued.stage}"
    if clock_ms > invoice.expires_ms:
        return f"the invoice expired at {invoice.expires_ms}, it is {clock_ms}"
    if part.amount < max(final.amount, final.total):
        return f"{part.amount} units of {max(final.amount, final.total)}"
    if part.amount < asked:
        return f"{part.amount} units, {asked} were asked for"
    if invoice.amount is not None and part.amount > MOST_TIMES * asked:
        return f"{part.amount} units, {asked} were asked for, and at most {MOST_TIMES} times as much is taken"
    return ""
