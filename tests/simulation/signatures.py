"""One memo of signature checks for all simulated replicas: the only thing that is shared or shortened.

The memo stands below `layer1.crypto.verify`, at the library, so that votes, accounts and groups are all served and
nothing of ours is replaced. What it remembers is the answer to one question: is this signature good for these bytes?
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nacl.bindings as sodium
import nacl.exceptions

from layer1 import crypto

MAX_REMEMBERED = 200_000
"""Checks; then the memo starts anew. A run makes some thousands."""


class _Memo:
    """The library, with a memory for `crypto_sign_open`."""

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes], bytes | None] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(sodium, name)

    def crypto_sign_open(self, signed: bytes, public: bytes) -> bytes:
        key = (signed, public)
        try:
            message = self._known[key]
        except KeyError:
            message = self._known[key] = self._open(signed, public)
            if len(self._known) > MAX_REMEMBERED:
                self._known.clear()
        if message is None:
            raise nacl.exceptions.BadSignatureError("Signature was forged or corrupt")
        return message

    @staticmethod
    def _open(signed: bytes, public: bytes) -> bytes | None:
        try:
            return sodium.crypto_sign_open(signed, public)
        except nacl.exceptions.BadSignatureError:
            return None


@contextmanager
def shared_signature_checks() -> Iterator[None]:
    """Within this, no signature is checked twice in this process."""
    before = vars(crypto)["sodium"]
    if isinstance(before, _Memo):
        yield
        return
    vars(crypto)["sodium"] = _Memo()
    try:
        yield
    finally:
        vars(crypto)["sodium"] = before
