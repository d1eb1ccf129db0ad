"""What a packet tells one hop: 49 bytes, whoever it is for.

The expiry and the hash are not here: they are the lock's own, one for all hops, and the packet is bound to them.

Source: decision 037.
"""

from __future__ import annotations

import struct
from typing import TypeAlias, assert_never

from layer1.codec import Struct
from layer1.crypto import PUBLIC_KEY_BYTES, PublicKey
from layer1.ledger.genesis import MAX_MONEY

PAYLOAD_BYTES = 49
SECRET_BYTES = 16
"""Of a payment secret: 128 bits, which nobody guesses in the life of an invoice."""
PREIMAGE_BYTES = 32

_FORWARD = struct.Struct(">B32sQ8s")
_FINAL = struct.Struct(">BQQ16s16s")
_SPONTANEOUS = struct.Struct(">BQQ32s")
_NOTHING = bytes(PAYLOAD_BYTES)


class Forward(Struct):
    """Offer a lock of `amount`, same hash and expiry, to `next_node`; what is left of the incoming one is the fee."""

    next_node: PublicKey
    amount: int


class Final(Struct):
    """It is for you, for an invoice of yours."""

    amount: int
    """The lock must be of so much at least."""
    total: int
    """Of all parts together; what the invoice asks for at least."""
    payment_secret: bytes
    """From the invoice: it shows that the origin has it, and is no hop that guesses at what the next one is."""


class Spontaneous(Struct):
    """It is for you, without an invoice: the preimage is the payer's."""

    amount: int
    total: int
    preimage: bytes
    """Encrypted for the payee like everything here."""


Payload: TypeAlias = Forward | Final | Spontaneous


def pack(payload: Payload) -> bytes:
    """Encode; 49 bytes.

    Raises:
        ValueError: A field is out of its bounds.
    """
    check_payload(payload)
    match payload:
        case Forward():
            return _FORWARD.pack(1, payload.next_node, payload.amount, _NOTHING[:8])
        case Final():
            return _FINAL.pack(2, payload.amount, payload.total, payload.payment_secret, _NOTHING[:16])
        case Spontaneous():
            return _SPONTANEOUS.pack(3, payload.amount, payload.total, payload.preimage)
        case _:
            assert_never(payload)


def unpack(data: bytes) -> Payload:
    """Decode what :func:`pack` made, and nothing else.

    Raises:
        ValueError: It is no payload, or a field is out of its bounds.
    """
    payload = _read(data)
    check_payload(payload)
    if pack(payload) != data:
        raise ValueError("what is not used of a payload is not zero")
    return payload


def check_payload(payload: Payload) -> None:
    """Return if every field is within its bounds.

    Raises:
        ValueError: One is not.
    """
    if not 0 < payload.amount <= MAX_MONEY:
        raise ValueError(f"an amount is of 1 to {MAX_MONEY} units, not {payload.amount}")
    match payload:
        case Forward():
            _sized("the next node", payload.next_node, PUBLIC_KEY_BYTES)
        case Final():
            _check_total(payload.amount, payload.total)
            _sized("a payment secret", payload.payment_secret, SECRET_BYTES)
        case Spontaneous():
            _check_total(payload.amount, payload.total)
            _sized("a preimage", payload.preimage, PREIMAGE_BYTES)
        case _:
            assert_never(payload)


def _read(data: bytes) -> Payload:
    _sized("a payload", data, PAYLOAD_BYTES)
    match data[0]:
        case 1:
            _, node, amount, _ = _FORWARD.unpack(data)
            return Forward(node, amount)
        case 2:
            _, amount, total, secret, _ = _FINAL.unpack(data)
            return Final(amount, total, secret)
        case 3:
            return Spontaneous(*_SPONTANEOUS.unpack(data)[1:])
        case other:
            raise ValueError(f"payloads are of kind 1 to 3, this one is of kind {other}")


def _check_total(amount: int, total: int) -> None:
    if not amount <= total <= MAX_MONEY:
        raise ValueError(f"a part of {amount} units belongs to a total of as much or more, not {total}")


def _sized(what: str, data: bytes, size: int) -> None:
    if len(data) != size:
        raise ValueError(f"{what} has {size} bytes, not {len(data)}")
