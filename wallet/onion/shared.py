"""What a hop and the origin share: from their keys to a secret, and from the secret to a key for each use.

Identities are Ed25519. Both halves are mapped to X25519 as libsodium does (RFC 7748, section 4.1: the two curves are
one), so that who knows a node's address can build a packet for it, and nothing has to be announced, fetched or renewed.
The same key pair signs and agrees: it is sound where what is agreed on is hashed before use (Thormarker, On using the
same key pair for Ed25519 and an X25519 based KEM, 2021), which :func:`shared_secret` does, with both public keys.

Source: Danezis and Goldberg, Sphinx (2009), section 3; RFC 5869 (HKDF); decision 037.
"""

from __future__ import annotations

from functools import lru_cache

import nacl.bindings as sodium
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from nacl.exceptions import CryptoError

from layer1.crypto import PublicKey, SigningKey
from wallet.onion.errors import MalformedPacket

KEY_BYTES = 32
"""Of an X25519 key, of a secret, and of every key made from one."""
TAG_BYTES = 16
"""Of HMAC-SHA-256, cut off: 128 bits against a forger who has one try for each packet."""
_DOMAIN = b"wedge/1/onion/"
_NONCE = bytes(16)
"""A key encrypts one stream in all its life, so the nonce may stand still."""


@lru_cache(maxsize=4_096)
def agreement_key(node: PublicKey) -> bytes:
    """The X25519 public key of an identity, 32 bytes.

    Raises:
        MalformedPacket: The identity is no point of the curve's large subgroup, so nobody can have its key.
    """
    try:
        return sodium.crypto_sign_ed25519_pk_to_curve25519(node)
    except (CryptoError, TypeError, ValueError):
        raise MalformedPacket(f"{node.hex()} is nobody's identity: no packet can be made for it") from None


def private_agreement_key(key: SigningKey) -> bytes:
    """The X25519 private key of an identity, 32 bytes. Never log or print it."""
    return sodium.crypto_sign_ed25519_sk_to_curve25519(key.seed() + key.public)


def multiply(private: bytes, public: bytes) -> bytes:
    """X25519 of a clamped number and a point.

    Raises:
        MalformedPacket: The point is one of the few that make every product zero.
    """
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        raise MalformedPacket(f"{public.hex()} is no key that anybody agrees on a secret with") from None


def public_of(private: bytes) -> bytes:
    """The X25519 public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def shared_secret(product: bytes, ephemeral: bytes, node_key: bytes) -> bytes:
    """The secret of one hop and one packet: the product, hashed with both public keys; 32 bytes."""
    return HKDF(SHA256(), KEY_BYTES, salt=ephemeral + node_key, info=_DOMAIN + b"secret").derive(product)


def derive(secret: bytes, purpose: bytes) -> bytes:
    """A key for one purpose."""
    return HKDFExpand(SHA256(), KEY_BYTES, info=_DOMAIN + purpose).derive(secret)


def stream(key: bytes, size: int) -> bytes:
    """So many bytes of ChaCha20."""
    return Cipher(ChaCha20(key, _NONCE), None).encryptor().update(bytes(size))


def tag(key: bytes, *parts: bytes) -> bytes:
    """HMAC-SHA-256 of the parts, of which only the last has no fixed length; 16 bytes."""
    mac = HMAC(key, SHA256())
    for part in parts:
        mac.update(part)
    return mac.finalize()[:TAG_BYTES]


def xor(one: bytes, other: bytes) -> bytes:
    """Both, bit by bit; they are of one length."""
    if len(one) != len(other):
        raise ValueError(f"{len(one)} and {len(other)} bytes are not of one length")
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(len(one))
