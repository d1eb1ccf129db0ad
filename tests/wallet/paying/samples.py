"""Payments for the tests."""

from __future__ import annotations

import hashlib
from itertools import count

from layer1.crypto import Hash, PublicKey, SigningKey
from wallet.paying.records import Attempt, Kind, Payment, Step


def key_of(name: str) -> SigningKey:
    """Of a node."""
    return SigningKey(hashlib.sha256(name.encode()).digest())


def node(name: str) -> PublicKey:
    """Its identity."""
    return key_of(name).public


def channel(name: str) -> Hash:
    """An id."""
    return hashlib.sha256(f"channel {name}".encode()).digest()


PREIMAGE = bytes(range(32))
HASH = hashlib.sha256(PREIMAGE).digest()
US, PAYEE = node("us"), node("payee")
PAYMENT = Payment(Kind.INVOICE, HASH, PAYEE, 1_000, 10)
_marks = count(1)


def attempt(received: int, fee: int = 0, *hops: str, **changes: object) -> Attempt:
    """A fresh one to the payee, over hubs of these names, the first of which keeps the fee."""
    hops = hops or (("hub",) if fee else ())
    nodes = [*map(node, hops), PAYEE]
    names = ["us", *hops, "payee"]
    amounts = [received + fee] + [received] * (len(nodes) - 1)
    steps = (
        Step(channel(f"{before}-{after}"), to, amount)
        for before, after, to, amount in zip(names, names[1:], nodes, amounts, strict=False)
    )
    mark = next(_marks).to_bytes(32)
    fields: dict[str, object] = {"expiry_ms": 1_000_000, "session": mark, "mark": mark}
    return Attempt(tuple(steps), **(fields | changes))  # type: ignore[arg-type]
