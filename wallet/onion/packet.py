"""Onion packets: built by the origin for a whole route, peeled by one hop after the other, 1,349 bytes at each.

*Safety:* a hop learns the next hop and what to offer it; whether it is the payee; and nothing of who is before its
predecessor or behind its successor, how long the route is, or where on it the hop stands. What it passes on is exactly
what the origin made, for exactly that lock, or nobody accepts it.

Each hop shares a secret with the origin, through one key that is blinded on the way, so that no two hops see the same.
The secret's streams hide one frame after the other: a hop takes the first, moves the others up, and what appears at the
end is what the origin expected there (the filler), so that each tag covers every byte. The tag covers the lock's hash
and expiry too, which are no part of the packet.

The origin fills what no hop uses with noise: with zeros, the last hop could count those before it.

Source: Danezis and Goldberg, Sphinx (2009), section 3; facts of its use for payments from BOLT 4.
Deviation: frames of one size; X25519 throughout, with numbers multiplied in turn instead of their product, since X25519
clamps each; tags of 16 bytes; amounts and the next hop alone in a frame, as rule 22 makes expiry and hash common to
all.
"""

from __future__ import annotations

import hmac
from itertools import pairwise

from layer1.codec import Struct
from layer1.crypto import HASH_BYTES, Hash, PublicKey, SigningKey
from layer1.errors import RemoteError
from wallet.onion.errors import BadPayload, MalformedPacket, TamperedPacket
from wallet.onion.payload import PAYLOAD_BYTES, Final, Forward, Payload, Spontaneous, pack, unpack
from wallet.onion.route import MAX_HOPS, Route, check_route
from wallet.onion.shared import (
    KEY_BYTES,
    TAG_BYTES,
    agreement_key,
    derive,
    multiply,
    private_agreement_key,
    public_of,
    shared_secret,
    stream,
    tag,
    xor,
)

VERSION = b"\x01"
FRAME_BYTES = PAYLOAD_BYTES + TAG_BYTES
"""A hop's payload, and the tag of what it passes on."""
FRAMES_BYTES = MAX_HOPS * FRAME_BYTES
PACKET_BYTES = len(VERSION) + KEY_BYTES + FRAMES_BYTES + TAG_BYTES
"""1,349, within the 1,366 that a command `Offer` carries."""


class Binding(Struct):
    """What a packet belongs to. It is not in it, and it opens with nothing else."""

    chain_id: Hash
    payment_hash: Hash
    expiry_ms: int

    def data(self) -> bytes:
        """In 72 bytes."""
        if len(self.chain_id) != HASH_BYTES or len(self.payment_hash) != HASH_BYTES or not 0 < self.expiry_ms < 2**63:
            raise RemoteError(f"a packet cannot belong to a lock like {self}")
        return self.chain_id + self.payment_hash + self.expiry_ms.to_bytes(8)


class Packet(Struct):
    """A packet, taken apart."""

    ephemeral: bytes
    """The origin's key, blinded for this hop."""
    frames: bytes
    tag: bytes

    def encoded(self) -> bytes:
        """As `Offer` carries it."""
        return VERSION + self.ephemeral + self.frames + self.tag


class Origin(Struct):
    """What the origin must keep to read a failure: as long as the payment, and from everybody else."""

    session: bytes
    """32 random bytes, new for each packet: one that is used twice gives two packets the same key, and hops see that
    they are of one origin.
    """
    nodes: tuple[PublicKey, ...]


class Peeled(Struct):
    """What a hop finds."""

    payload: Payload
    secret: bytes
    """Wraps failures on their way back; a forwarder keeps it beside its locks (:mod:`wallet.onion.failure`)."""
    seen: bytes
    """16 bytes by which the packet is known again (:mod:`wallet.onion.replay`)."""
    packet: bytes
    """For the next hop; empty for the payee."""


def build(route: Route, binding: Binding, session: bytes, *, total: int, payment_secret: bytes) -> tuple[bytes, Origin]:
    """The packet for an invoice's payee, and what reads its failures.

    Args:
        route: Who gets how much.
        binding: Of the lock that will carry it; its expiry is the route's.
        session: 32 random bytes, never used before.
        total: Units of all parts of the payment.
        payment_secret: 16 bytes, from the invoice.

    Raises:
        Refused: ``bad_route``.
        MalformedPacket: A hop's identity is none.
    """
    return _build(route, binding, session, Final(route.received, total, payment_secret))


def build_spontaneous(
    route: Route, binding: Binding, session: bytes, *, total: int, preimage: bytes
) -> tuple[bytes, Origin]:
    """The same without an invoice: the payee finds the preimage inside. It must be that of the lock's hash."""
    return _build(route, binding, session, Spontaneous(route.received, total, preimage))


def peel(key: SigningKey, data: bytes, binding: Binding) -> Peeled:
    """Open the outermost frame with a node's identity key.

    Whether the packet came before is asked besides: :class:`wallet.onion.replay.SeenPackets`.

    Raises:
        MalformedPacket: Another size, version, or no key.
        TamperedPacket: Altered, for somebody else, or for another lock.
        BadPayload: The origin wrote nonsense.
    """
    packet = parse(data)
    private = private_agreement_key(key)
    product = multiply(private, packet.ephemeral)
    secret = shared_secret(product, packet.ephemeral, public_of(private))
    if not hmac.compare_digest(packet.tag, _tag(secret, packet.frames, binding)):
        raise TamperedPacket("the packet was altered, or made for another node or for a lock of other hash or expiry")
    longer = xor(packet.frames + bytes(FRAME_BYTES), stream(derive(secret, b"frames"), FRAMES_BYTES + FRAME_BYTES))
    frame, frames = longer[:FRAME_BYTES], longer[FRAME_BYTES:]
    try:
        payload = unpack(frame[:PAYLOAD_BYTES])
    except ValueError as error:
        raise BadPayload(f"the packet is authentic, and its payload none: {error}", secret) from None
    onward = b""
    if isinstance(payload, Forward):
        onward = Packet(_blind(secret, packet.ephemeral), frames, frame[PAYLOAD_BYTES:]).encoded()
    return Peeled(payload, secret, derive(secret, b"seen")[:TAG_BYTES], onward)


def parse(data: bytes) -> Packet:
    """Take a packet apart.

    Raises:
        MalformedPacket: It has another size or version.
    """
    if len(data) != PACKET_BYTES:
        raise MalformedPacket(f"a packet has {PACKET_BYTES} bytes, this one {len(data)}")
    if data[:1] != VERSION:
        raise MalformedPacket(f"a packet is of version {VERSION[0]}, this one of {data[0]}")
    ephemeral, rest = data[1 : 1 + KEY_BYTES], data[1 + KEY_BYTES :]
    return Packet(ephemeral, rest[:FRAMES_BYTES], rest[FRAMES_BYTES:])


def secrets(origin: Origin) -> tuple[tuple[bytes, ...], bytes]:
    """The secret that the origin shares with each hop, in the route's order; and the key that the first one sees."""
    if len(origin.session) != KEY_BYTES:
        raise ValueError(f"a session has {KEY_BYTES} bytes, not {len(origin.session)}")
    first = ephemeral = public_of(origin.session)
    found: list[bytes] = []
    blinds: list[bytes] = []
    for node in origin.nodes:
        node_key = agreement_key(node)
        product = multiply(origin.session, node_key)
        for blind in blinds:
            product = multiply(blind, product)
        found.append(shared_secret(product, ephemeral, node_key))
        blinds.append(derive(found[-1], b"blind"))
        ephemeral = multiply(blinds[-1], ephemeral)
    return tuple(found), first


def _build(route: Route, binding: Binding, session: bytes, last: Final | Spontaneous) -> tuple[bytes, Origin]:
    check_route(route)
    if binding.expiry_ms != route.expiry_ms:
        raise ValueError(f"the lock expires at {binding.expiry_ms}, the route at {route.expiry_ms}")
    origin = Origin(session, tuple(hop.node for hop in route.hops))
    shared, ephemeral = secrets(origin)
    payloads = [pack(Forward(after.node, after.amount)) for _, after in pairwise(route.hops)] + [pack(last)]
    frames, mac = stream(derive(session, b"noise"), FRAMES_BYTES), bytes(TAG_BYTES)
    filler = _filler(shared)
    for place in reversed(range(len(shared))):
        frames = payloads[place] + mac + frames[:-FRAME_BYTES]
        frames = xor(frames, stream(derive(shared[place], b"frames"), FRAMES_BYTES))
        if place == len(shared) - 1:
            frames = frames[: FRAMES_BYTES - len(filler)] + filler
        mac = _tag(shared[place], frames, binding)
    return Packet(ephemeral, frames, mac).encoded(), origin


def _filler(shared: tuple[bytes, ...]) -> bytes:
    """What stands at the end of the frames when they reach the last hop: each hop before it moved one frame in."""
    filler = b""
    for secret in shared[:-1]:
        filler += bytes(FRAME_BYTES)
        end = stream(derive(secret, b"frames"), FRAMES_BYTES + FRAME_BYTES)[-len(filler) :]
        filler = xor(filler, end)
    return filler


def _blind(secret: bytes, ephemeral: bytes) -> bytes:
    return multiply(derive(secret, b"blind"), ephemeral)


def _tag(secret: bytes, frames: bytes, binding: Binding) -> bytes:
    return tag(derive(secret, b"tag"), binding.data(), frames)
