"""The one encoding: msgpack by msgspec, structs as arrays, and one byte string for each value.

Two encodings of one value would be two hashes of one transaction, so :func:`decode` refuses every input that
:func:`encode` would not have produced.

Source: docs/design/architecture.md, "Encoding".
"""

from __future__ import annotations

from typing import Any, TypeVar, dataclass_transform

import msgspec

from layer1.errors import RemoteError

T = TypeVar("T")

_encoder = msgspec.msgpack.Encoder()
encode = _encoder.encode
"""Encode any struct of ours, or a tuple, int, str, bytes or None, canonically."""


@dataclass_transform(frozen_default=True, field_specifiers=(msgspec.field,))
class Struct(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of everything that is hashed, signed, stored or sent: immutable, compact, compared by value."""


_decoders: dict[Any, msgspec.msgpack.Decoder[Any]] = {}


def _decoder(kind: Any) -> msgspec.msgpack.Decoder[Any]:
    if kind not in _decoders:
        _decoders[kind] = msgspec.msgpack.Decoder(kind)
    return _decoders[kind]


def decode(data: bytes, kind: type[T]) -> T:
    """Decode ``data`` as a ``kind`` (a struct, or a union of tagged structs).

    Raises:
        RemoteError: It is not the canonical encoding of such a value.
    """
    try:
        value: T = _decoder(kind).decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RemoteError(f"{len(data)} bytes do not decode as {_name(kind)}: {error}") from error
    if encode(value) != data:
        raise RemoteError(f"{len(data)} bytes are not the canonical encoding of a {_name(kind)}")
    return value


def leading_number(data: bytes) -> int | None:
    """The number that a struct of whatever version begins with; None if there is none below 2^30."""
    try:
        value = msgspec.msgpack.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    first = value[0] if isinstance(value, list) and value else None
    return first if type(first) is int and 0 <= first < 2**30 else None


def _name(kind: Any) -> str:
    return getattr(kind, "__name__", str(kind))
