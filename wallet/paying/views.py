"""What one sees of a payment: each try with its path, who refused, what it cost."""

from __future__ import annotations

from layer1.crypto import PublicKey, format_address
from wallet.invoices.invoice import format_invoice
from wallet.paying.records import Attempt, Fate, Payment
from wallet.requests import HopView, PaymentView, TryView


def payment_view(payment: Payment, us: PublicKey, *, trying: bool = False, repeated: bool = False) -> PaymentView:
    """A payment of ours.

    Args:
        payment: The record.
        us: Our own address.
        trying: Whether it may be offered again by itself: then it has not failed yet.
        repeated: Whether it was there before this request.
    """
    last = payment.attempts[-1]
    fate = Fate.PENDING if trying and payment.fate is Fate.FAILED else payment.fate
    failed = fate is Fate.FAILED
    return PaymentView(
        kind=payment.kind.value,
        invoice=format_invoice(payment.invoice) if payment.invoice is not None else None,
        payment_hash=payment.payment_hash.hex(),
        state=fate.value,
        payee=format_address(payment.payee),
        amount=payment.amount,
        fee=payment.fee,
        max_fee=payment.max_fee,
        description=payment.invoice.description if payment.invoice is not None else "",
        channel=last.group_id.hex(),
        expiry_ms=last.expiry_ms,
        preimage=payment.preimage.hex() or None,
        attempts=len(payment.attempts),
        tries=tuple(_try_view(each, us, shown=bool(payment.preimage)) for each in payment.attempts),
        repeated=repeated,
        code=last.code if failed else None,
        message=last.message if failed else None,
        changed_ms=payment.changed_ms,
    )


def _try_view(attempt: Attempt, us: PublicKey, *, shown: bool) -> TryView:
    """What stands is paid as soon as the preimage was seen: who has it takes it."""
    hops = tuple(
        HopView(node=format_address(step.node), channel=step.channel.hex(), amount=step.amount) for step in attempt.path
    )
    place = attempt.place
    return TryView(
        state=(Fate.PAID if shown and attempt.fate is Fate.PENDING else attempt.fate).value,
        amount=attempt.received,
        fee=attempt.fee,
        path=hops,
        expiry_ms=attempt.expiry_ms,
        code=attempt.code or None,
        message=attempt.message or None,
        refused_by=None if place is None else format_address(us) if place < 0 else hops[place].node,
    )
