"""A body sealed for its owner: whoever keeps it can neither read nor alter it, and learns its size in steps only.

*Safety:* from what a keeper holds, header and sealed body, only the member that sealed it gets the body, and only the
one that the header commits to.

The key is derived from the member's secret and the hash of the header, which names chain, group, epoch and version and
commits to the body. So a key encrypts one plaintext in all its life, and the nonce may stand still: one body sealed
twice gives the same bytes, and nothing has to be remembered. A member that is restored from its phrase has the secret,
and its keeper shows the header.

Source: docs/design/groups.md, rules 12 and 17; AES-GCM, NIST SP 800-38D; RFC 5869 (HKDF).
"""

from __future__ import annotations

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from layer1.codec import decode, encode
from layer1.crypto import SigningKey
from layer1.errors import LocalError, RemoteError
from layer1.ledger.agreements import Body, GroupHeader

STEP_BYTES = 128
"""A body is filled up to a multiple of this, so that its size tells little about the amounts in it."""
TAG_BYTES = 16
"""Of AES-GCM, behind the ciphertext."""
_NONCE = bytes(12)
_DOMAIN = b"wedge/1/sealed-body/"


def seal_body(secret: SigningKey, header: GroupHeader, body: Body) -> bytes:
    """Encrypt a body for the member whose group key `secret` is; the same bytes each time.

    Raises:
        LocalError: The header is of another body.
    """
    if body.hash != header.body_hash:
        raise LocalError(f"body {body.hash.hex()} is not that of the header, {header.body_hash.hex()}: seal the pair")
    return _cipher(secret, header).encrypt(_NONCE, _filled(encode(body)), None)


def open_body(secret: SigningKey, header: GroupHeader, sealed: bytes) -> Body:
    """Decrypt what :func:`seal_body` made of the body behind `header`.

    Raises:
        RemoteError: It is not what this member sealed for this header: the keeper altered or mixed it up.
    """
    try:
        body = decode(_unfilled(_cipher(secret, header).decrypt(_NONCE, sealed, None)), Body)
    except (InvalidTag, ValueError) as error:
        raise RemoteError(
            f"{len(sealed)} bytes are not the sealed body of version {header.version}: ask another keeper"
        ) from error
    if body.hash != header.body_hash:
        raise RemoteError(f"the sealed body is {body.hash.hex()}, the header's {header.body_hash.hex()}")
    return body


def sealed_bytes(body_bytes: int) -> int:
    """How long an encoded body of so many bytes is when sealed."""
    return -(-(body_bytes + 1) // STEP_BYTES) * STEP_BYTES + TAG_BYTES


def _cipher(secret: SigningKey, header: GroupHeader) -> AESGCM:
    derived = HKDF(SHA256(), 32, salt=None, info=_DOMAIN + header.hash).derive(secret.seed())
    return AESGCM(derived)


def _filled(data: bytes) -> bytes:
    """Up to the next step: one byte 1, then zeros (ISO/IEC 7816-4)."""
    size = sealed_bytes(len(data)) - TAG_BYTES
    return (data + b"\x01").ljust(size, b"\0")


def _unfilled(data: bytes) -> bytes:
    return data.rstrip(b"\0")[:-1]
