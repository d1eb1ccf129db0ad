"""Values of any type that is sent or stored, made from its declaration alone."""

from __future__ import annotations

import random
from typing import Any

from msgspec import inspect

from layer1.codec import encode

INTEGERS = (
    *(0, 1, 2, 3, 7, 64, 127, 128, 255, 256, 65_536, 2**32 - 1, 2**32, 2**53 - 1, 2**53, 2**62, 2**63 - 1, 2**64 - 1),
    *(-1, -32, -33, -128, -(2**31), -(2**63)),
)
"""Where encodings and checks change."""
LENGTHS = (32, 32, 32, 64, 64, 16, 0, 1, 31, 33, 300)
"""Of byte strings: mostly those of keys, hashes, signatures and salts."""
TEXTS = ("", "a", "payments/2", "WDG", "\0", "é", "\U0001f4b8", "x" * 300)
MOST_ITEMS = 4


def value(kind: Any, rng: random.Random) -> Any:
    """Some value that the type allows; small, and odd more often than chance would make it."""
    return _value(inspect.type_info(kind), rng)


def encoded(kind: Any, rng: random.Random) -> bytes:
    """Its canonical encoding."""
    return encode(value(kind, rng))


def _value(info: inspect.Type, rng: random.Random) -> Any:
    match info:
        case inspect.IntType():
            return rng.choice(INTEGERS) if rng.random() < 0.7 else rng.randrange(1 << rng.randrange(1, 64))
        case inspect.BytesType():
            return rng.randbytes(rng.choice(LENGTHS))
        case inspect.StrType():
            return rng.choice(TEXTS)
        case inspect.BoolType():
            return rng.random() < 0.5
        case inspect.NoneType():
            return None
        case inspect.FloatType():
            return rng.random()
        case inspect.AnyType():
            return rng.choice([None, 1, "x", [], {}])
        case inspect.LiteralType():
            return rng.choice(info.values)
        case inspect.EnumType():
            return rng.choice(list(info.cls))
        case inspect.UnionType():
            return _value(rng.choice(info.types), rng)
        case inspect.TupleType():
            return tuple(_value(item, rng) for item in info.item_types)
        case inspect.VarTupleType():
            return tuple(_items(info.item_type, rng))
        case inspect.ListType():
            return _items(info.item_type, rng)
        case inspect.DictType():
            pairs = zip(_items(info.key_type, rng), _items(info.value_type, rng), strict=False)
            return dict(pairs)
        case inspect.StructType():
            return info.cls(**{field.name: _value(field.type, rng) for field in info.fields})
        case _:
            raise NotImplementedError(f"no value of {info}")


def _items(item: inspect.Type, rng: random.Random) -> list[Any]:
    return [_value(item, rng) for _ in range(rng.randrange(MOST_ITEMS))]
