"""The genesis as a file: the API's own shape, of which only the canonical encoding is believed.

*Safety:* the chain id is computed from the encoding; what else stands in the file is for people.
"""

from __future__ import annotations

import msgspec

from layer1.codec import decode, encode
from layer1.errors import Refused, RemoteError
from layer1.ledger.genesis import Genesis, validate


class _File(msgspec.Struct):
    """What is read of it; ``GET /genesis`` and ``layer1 init`` write more."""

    encoded: str
    """Hex of the canonical encoding."""
    chain_id: str = ""


def encode_genesis(genesis: Genesis) -> bytes:
    """The file's content."""
    return msgspec.json.format(msgspec.json.encode(_File(encode(genesis).hex(), genesis.chain_id.hex()))) + b"\n"


def decode_genesis(data: bytes) -> Genesis:
    """Read the file, or the canonical encoding alone.

    Raises:
        Refused: ``bad_genesis``.
    """
    try:
        encoded = bytes.fromhex(msgspec.json.decode(data, type=_File).encoded) if data[:1] == b"{" else data
        genesis = decode(encoded, Genesis)
        validate(genesis)
    except (msgspec.MsgspecError, ValueError, RemoteError, Refused) as error:
        raise Refused("bad_genesis", f"this is not the genesis of a ledger: {error}") from None
    return genesis
