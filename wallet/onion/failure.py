"""Why a payment failed, told to the origin alone: 292 bytes at each hop.

The hop that fails writes code and data, tags them, and encrypts both; each hop before it encrypts again. Only the
origin has all secrets: it takes one layer off after the other, and whose tag fits wrote it. Nobody on the way learns
which hop that was, nor can say so in another's name. A hop that alters what passes makes it unreadable; the origin then
knows that one of them did, and not which.

A hop that could not open its packet shares no secret with the origin. It releases the lock with no reason at all, and
its predecessor says :attr:`Code.NEXT_REFUSED_PACKET` in its own name.

Source: BOLT 4, "Returning errors", for the idea; decision 037.
"""

from __future__ import annotations

import hmac
from enum import Enum

from layer1.codec import Struct, decode, encode
from layer1.crypto import PublicKey
from layer1.errors import RemoteError
from wallet.onion.errors import UnreadableFailure
from wallet.onion.packet import Origin, secrets
from wallet.onion.shared import TAG_BYTES, derive, stream, tag, xor

FAILURE_BYTES = 292
"""Of a reason, as `Release` carries it."""
MAX_DATA_BYTES = 200
_TEXT_BYTES = FAILURE_BYTES - TAG_BYTES


class Code(Enum):
    """Why. The value is what goes over the wire, and never changes its meaning."""

    NO_LIQUIDITY = "no_liquidity"
    """The next channel has too little on this side, or no free slot, just now."""
    UNKNOWN_NEXT = "unknown_next"
    """No channel with the next hop, or one that is closing."""
    NEXT_AWAY = "next_away"
    """There is a channel, and its other member does not answer."""
    NEXT_REFUSED_PACKET = "next_refused_packet"
    """The next hop could not open what this one passed on."""
    FEE_TOO_SMALL = "fee_too_small"
    AMOUNT_TOO_SMALL = "amount_too_small"
    AMOUNT_TOO_LARGE = "amount_too_large"
    """More than the channel takes in one lock, or than it has room for in flight."""
    EXPIRES_TOO_SOON = "expires_too_soon"
    EXPIRES_TOO_LATE = "expires_too_late"
    BAD_PAYLOAD = "bad_payload"
    BUSY = "busy"
    """Too many packets or payments of this neighbour at once."""
    UNKNOWN_PAYMENT = "unknown_payment"
    """By the payee: no such invoice, another secret or amount, paid, cancelled or expired. One code for all, so that
    nobody who has only a hash learns which.
    """
    PARTS_MISSING = "parts_missing"
    """By the payee: the other parts did not come in time."""
    UNKNOWN_SPONTANEOUS = "unknown_spontaneous"
    """By the payee: it takes no payments without an invoice, or the preimage is not that of the hash."""


class Failure(Struct):
    """A hop's word."""

    code: Code
    data: bytes = b""
    """What helps the origin to do better, such as the channel's newest announcement; at most 200 bytes."""


class Told(Struct):
    """What the origin learned."""

    place: int
    """Of the hop on the route, from 0: our neighbour."""
    node: PublicKey
    failure: Failure


def wrap(secret: bytes, failure: Failure) -> bytes:
    """The failure in the name of the hop with this secret; 292 bytes. Once for each packet."""
    if len(failure.data) > MAX_DATA_BYTES:
        raise ValueError(f"a failure has at most {MAX_DATA_BYTES} bytes of data, not {len(failure.data)}")
    text = (encode(failure) + b"\x01").ljust(_TEXT_BYTES, b"\0")
    return _hide(secret, tag(derive(secret, b"failure tag"), text) + text)


def relay(secret: bytes, reason: bytes) -> bytes:
    """Pass a failure back that came from the next hop; 292 bytes.

    Whatever is of another length, the next hop's refusal to open its packet among it, becomes a failure in our name.
    """
    if len(reason) != FAILURE_BYTES:
        return wrap(secret, Failure(Code.NEXT_REFUSED_PACKET))
    return _hide(secret, reason)


def unwrap(origin: Origin, reason: bytes) -> Told:
    """Read a failure.

    Raises:
        UnreadableFailure: No hop of the route wrote it, or our neighbour could not open the packet.
    """
    shared, _ = secrets(origin)
    if not reason:
        raise UnreadableFailure("our neighbour could not open the packet: it has another key than its address says")
    if len(reason) != FAILURE_BYTES:
        raise UnreadableFailure(f"a failure has {FAILURE_BYTES} bytes, this one {len(reason)}")
    for place, secret in enumerate(shared):
        reason = _hide(secret, reason)
        mark, text = reason[:TAG_BYTES], reason[TAG_BYTES:]
        if hmac.compare_digest(mark, tag(derive(secret, b"failure tag"), text)):
            return Told(place, origin.nodes[place], _read(text))
    raise UnreadableFailure(
        f"none of {len(shared)} hops wrote this failure: one of them altered it, nobody can say which"
    )


def _hide(secret: bytes, data: bytes) -> bytes:
    """Encrypt, or decrypt."""
    return xor(data, stream(derive(secret, b"failure"), len(data)))


def _read(text: bytes) -> Failure:
    """What an authentic hop wrote; nonsense is its own fault, and still names it."""
    try:
        failure = decode(text.rstrip(b"\0")[:-1], Failure)
    except RemoteError:
        return Failure(Code.BAD_PAYLOAD)
    return failure if len(failure.data) <= MAX_DATA_BYTES else Failure(failure.code)
