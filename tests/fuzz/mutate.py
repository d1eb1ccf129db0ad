"""Encodings that are almost right: the bytes spoiled, or the tree behind them."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from tests.fuzz.generate import INTEGERS, TEXTS

HUGE = (
    b"\xdd\xff\xff\xff\xff",
    b"\xdf\xff\xff\xff\xff",
    b"\xc6\xff\xff\xff\xff",
    b"\xdb\xff\xff\xff\xff",
    b"\xc9\xff\xff\xff\xff\x01",
    b"\xdc\xff\xff",
    b"\xc5\xff\xff",
)
"""Heads of msgpack arrays, maps, bytes, texts and extensions that promise more than comes."""
DEEP = (b"\x91" * 100_000, b"\x81\x01" * 50_000, b"[" * 100_000, b'{"a":' * 50_000)


def mutated(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """One to three things wrong with it."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(_WAYS)(data, others, rng)
    return data


def _flip(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    if not data:
        return b"\0"
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def _replace(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.randbytes(rng.randrange(1, 9)) + data[place + rng.randrange(9) :]


def _truncate(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    return data[: rng.randrange(len(data) + 1)]


def _extend(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    return data + rng.choice((b"\0", b"\xc0", rng.randbytes(20), rng.choice(others)))


def _repeat(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    piece = data[place : place + rng.randrange(1, 4)]
    return data[:place] + piece * rng.choice((2, 100, 5_000)) + data[place:]


def _splice(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    other = rng.choice(others)
    return data[: rng.randrange(len(data) + 1)] + other[rng.randrange(len(other) + 1) :]


def _promise(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(HUGE) + data[place + 1 :]


def _deepen(data: bytes, _: list[bytes], rng: random.Random) -> bytes:
    place = rng.randrange(len(data) + 1)
    return data[:place] + rng.choice(DEEP) + data[place:]


def _change_tree(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """Change a field of what the bytes stand for, in msgpack or JSON, and write it again."""
    for decode, encode in ((msgspec.msgpack.decode, _encode), (msgspec.json.decode, msgspec.json.encode)):
        try:
            tree = decode(data)
            return encode(_changed(tree, rng))
        except (msgspec.MsgspecError, RecursionError, ValueError, TypeError, OverflowError):
            continue
    return _flip(data, others, rng)


def _widen(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The same value in longer words than need be: for every value there is one encoding."""
    try:
        return _encode(msgspec.msgpack.decode(data), rng)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return _flip(data, others, rng)


def _changed(tree: Any, rng: random.Random) -> Any:
    if isinstance(tree, list) and tree and rng.random() < 0.8:
        place = rng.randrange(len(tree))
        if rng.random() < 0.7:
            return [*tree[:place], _changed(tree[place], rng), *tree[place + 1 :]]
        return rng.choice(_LISTS)(tree, place)
    if isinstance(tree, dict) and tree and rng.random() < 0.8:
        key = rng.choice(list(tree))
        if rng.random() < 0.8:
            return {**tree, key: _changed(tree[key], rng)}
        return {name: item for name, item in tree.items() if name != key} | {"other": 1}
    return rng.choice(_ODD)(rng)


_LISTS: list[Callable[[list[Any], int], list[Any]]] = [
    lambda tree, place: tree[:place] + tree[place + 1 :],
    lambda tree, place: [*tree[:place], tree[place], *tree[place:]],
    lambda tree, place: [*tree[:place], [tree[place]], *tree[place + 1 :]],
    lambda tree, place: [*tree[place:], *tree[:place]],
    lambda tree, place: tree[::-1],
    lambda tree, place: tree * 50,
    lambda tree, place: [],
]
_ODD: list[Callable[[random.Random], Any]] = [
    lambda rng: rng.choice(INTEGERS),
    lambda rng: rng.randbytes(rng.choice((0, 31, 32, 33, 64, 5_000))),
    lambda rng: rng.choice(TEXTS),
    lambda rng: rng.choice((None, True, False, 1.5, float("nan"), float("inf"), -0.0)),
    lambda rng: rng.choice(([], {}, [[]], {"a": []}, [None] * 1_000)),
    lambda rng: "00" * rng.choice((0, 16, 31, 32, 64)),
]


def _encode(tree: Any, rng: random.Random | None = None) -> bytes:
    """Msgpack, with heads wider than need be if there is chance to choose them."""
    wide = rng is not None and rng.random() < 0.3
    match tree:
        case list():
            head = struct.pack(">BI", 0xDD, len(tree)) if wide else None
            body = b"".join(_encode(item, rng) for item in tree)
            return (head or msgspec.msgpack.encode([None] * len(tree))[: -len(tree) or None]) + body
        case bytes() if wide:
            return struct.pack(">BI", 0xC6, len(tree)) + tree
        case str() if wide:
            data = tree.encode()
            return struct.pack(">BI", 0xDB, len(data)) + data
        case bool() | None:
            return msgspec.msgpack.encode(tree)
        case int() if wide and 0 <= tree < 2**64:
            return struct.pack(">BQ", 0xCF, tree)
        case int() if wide and -(2**63) <= tree < 0:
            return struct.pack(">Bq", 0xD3, tree)
        case _:
            return msgspec.msgpack.encode(tree)


_WAYS = [
    _flip,
    _flip,
    _replace,
    _truncate,
    _extend,
    _repeat,
    _splice,
    _promise,
    _deepen,
    *[_change_tree] * 6,
    _widen,
    _widen,
]
