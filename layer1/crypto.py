"""Keys, addresses, hashes and signatures.

Every hash has a domain (BLAKE2b ``person``), every signature a domain and a chain, so that nothing made for one
purpose serves another. One verifier is used everywhere, one signature at a time: replicas that disagreed on a
single odd signature would fork.

Source: docs/design/architecture.md, "Choices already made".
"""

from __future__ import annotations

import hashlib
import os
from enum import Enum
from functools import lru_cache

import bech32
import nacl.bindings as sodium
import nacl.exceptions

from layer1.errors import Refused

HASH_BYTES = 32
PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64
SEED_BYTES = 32
ZERO_HASH = bytes(HASH_BYTES)
ADDRESS_PREFIX = "wedge"
"""Human-readable part of an address in text."""

Hash = bytes
PublicKey = bytes
"""Ed25519 public key, 32 bytes. An account's address is its public key."""
Signature = bytes


class Domain(Enum):
    """What a hash is of. The value is BLAKE2b's ``person``, at most 16 bytes."""

    GENESIS = b"wedge.genesis"
    HEADER = b"wedge.header"
    BATCH = b"wedge.batch"
    BATCHES = b"wedge.batches"
    TRANSACTION = b"wedge.tx"
    TRANSACTIONS = b"wedge.txs"
    LEAF = b"wedge.leaf"
    NODE = b"wedge.node"
    STATE_KEY = b"wedge.key"
    RECORD = b"wedge.record"
    REMEMBERED = b"wedge.ids"
    OUTPUT = b"wedge.output"
    REPLICA_SET = b"wedge.replicas"
    GROUP = b"wedge.group"
    AGREEMENT = b"wedge.agreement"
    SUCCESSOR = b"wedge.successor"
    GROUP_HEADER = b"wedge.gheader"
    BODY = b"wedge.body"
    LOG = b"wedge.log"
    CERTIFICATE = b"wedge.tls"
    EVIDENCE = b"wedge.evidence"

    __hash__ = object.__hash__
    """By identity: Enum's own is written in Python, and looking up a domain would cost more than hashing."""


class Kind(Enum):
    """What a signature is for. The value fills 16 bytes in front of what is signed."""

    NOTARIZE = b"NOTARIZE"
    FINALIZE = b"FINALIZE"
    NULLIFY = b"NULLIFY"
    LINK = b"LINK"
    TRANSFER = b"TRANSFER"
    OPEN = b"OPEN"
    STATE = b"STATE"
    FINAL = b"FINAL"
    CLAIM = b"CLAIM"
    ACK = b"ACK"
    CONCUR = b"CONCUR"
    PLEA = b"PLEA"
    RESIZE = b"RESIZE"
    RECONFIGURE = b"RECONFIGURE"
    DELEGATE = b"DELEGATE"
    WITNESS = b"WITNESS"
    RECEIPT = b"RECEIPT"
    INVOICE = b"INVOICE"
    CHANGE = b"CHANGE"
    ANNOUNCE_CHANNEL = b"ANNOUNCE_CHANNEL"


_prepared = {domain: hashlib.blake2b(digest_size=HASH_BYTES, person=domain.value) for domain in Domain}
"""Parsing BLAKE2b's parameters costs more than hashing 200 bytes: it is done once a domain."""


def hasher(domain: Domain, prefix: bytes) -> hashlib.blake2b:
    """A BLAKE2b-256 hasher of ``domain`` that has taken in ``prefix``: copy it for each thing to hash."""
    prepared = _prepared[domain].copy()
    prepared.update(prefix)
    return prepared


def digest(domain: Domain, data: bytes) -> Hash:
    """BLAKE2b-256 of ``data`` in ``domain``."""
    prepared = _prepared[domain].copy()
    prepared.update(data)
    return prepared.digest()


def signed_bytes(kind: Kind, chain_id: Hash, data: bytes) -> bytes:
    """What a signature covers: 16 bytes of kind, 32 bytes of chain, then ``data``."""
    return kind.value.ljust(16, b"\0") + chain_id + data


class SigningKey:
    """An Ed25519 private key. It never shows itself in a ``repr``, and is compared by identity."""

    __slots__ = ("_secret", "public")

    public: PublicKey

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise ValueError(f"a signing key is made of a seed of {SEED_BYTES} bytes, not {len(seed)}")
        self.public, self._secret = sodium.crypto_sign_seed_keypair(seed)

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's randomness."""
        return cls(os.urandom(SEED_BYTES))

    def sign(self, kind: Kind, chain_id: Hash, data: bytes) -> Signature:
        """Sign ``data`` for one kind and chain; 64 bytes."""
        return sodium.crypto_sign(signed_bytes(kind, chain_id, data), self._secret)[:SIGNATURE_BYTES]

    def seed(self) -> bytes:
        """The 32 bytes to keep at rest, encrypted. Never log or print them."""
        return self._secret[:SEED_BYTES]

    def __repr__(self) -> str:
        return f"SigningKey(public={self.public.hex()})"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("a signing key is not pickled: its secret would leave with it")


def verify(public: PublicKey, signature: Signature, kind: Kind, chain_id: Hash, data: bytes) -> bool:
    """Whether ``signature`` over ``data`` is by ``public``, for this kind and chain. Never raises on odd input."""
    if len(public) != PUBLIC_KEY_BYTES or len(signature) != SIGNATURE_BYTES:
        return False
    try:
        sodium.crypto_sign_open(signature + signed_bytes(kind, chain_id, data), public)
    except nacl.exceptions.BadSignatureError:
        return False
    return True


def parse_key(text: str) -> PublicKey:
    """Read a public key in hex.

    Raises:
        Refused: ``bad_key``; the text is none.
    """
    if len(text) != 2 * PUBLIC_KEY_BYTES or not set(text) <= set("0123456789abcdefABCDEF"):
        raise Refused("bad_key", f"{text[:80]!r} is no public key; a key is {2 * PUBLIC_KEY_BYTES} digits in hex")
    return bytes.fromhex(text)


@lru_cache(maxsize=4_096)
def format_address(public: PublicKey) -> str:
    """An address for people: Bech32 with a checksum, 64 characters.

    The payload has a fixed length, which closes the one weakness of Bech32 that Bech32m mends (BIP-350). Remembered,
    for the checksum takes longer than verifying a signature and a channel's history names the same few addresses.
    """
    words = bech32.convertbits(public, 8, 5)
    assert words is not None, "eight bits regroup into fives with padding"
    return bech32.bech32_encode(ADDRESS_PREFIX, words)


def parse_address(text: str) -> PublicKey:
    """Read an address.

    Raises:
        Refused: ``bad_address``; the text is not an address, or a character of it is wrong.
    """
    prefix, words = bech32.bech32_decode(text)
    payload = bech32.convertbits(words, 5, 8, False) if words is not None else None
    if prefix != ADDRESS_PREFIX or payload is None or len(payload) != PUBLIC_KEY_BYTES:
        raise Refused(
            "bad_address",
            f"{text[:80]!r} is not an address; an address starts with {ADDRESS_PREFIX}1 and ends in a checksum: "
            "copy it again, whole",
        )
    return bytes(payload)
