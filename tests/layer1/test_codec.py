"""The one encoding."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1.codec import Struct, decode, encode
from layer1.errors import RemoteError


class Point(Struct, tag="point"):
    """A small struct."""

    x: int
    y: bytes
    label: str = ""


class Pair(Struct, tag="pair"):
    """A struct of structs."""

    left: Point
    right: tuple[Point, ...]


points = st.builds(Point, st.integers(-(2**63), 2**64 - 1), st.binary(max_size=40), st.text(max_size=10))
values = points | st.builds(Pair, points, st.lists(points, max_size=3).map(tuple))


@given(values)
def test_what_was_encoded_decodes_to_the_same_value(value: Point | Pair) -> None:
    assert decode(encode(value), Point | Pair) == value  # type: ignore[arg-type]


@given(st.binary(max_size=60))
def test_junk_is_the_senders_fault_and_never_a_crash(data: bytes) -> None:
    try:
        value = decode(data, Pair)
    except RemoteError:
        return
    assert encode(value) == data


@pytest.mark.parametrize(
    ("description", "data"),
    [
        ("an integer in more bytes than it needs", b"\x94\xa5point\xcd\x00\x01\xc4\x00\xa0"),
        ("bytes with a longer length prefix than they need", b"\x94\xa5point\x01\xc5\x00\x00\xa0"),
        ("an optional field left out", b"\x93\xa5point\x01\xc4\x00"),
        ("a string where bytes belong", msgspec.msgpack.encode(["point", 1, "text", ""])),
        ("something behind the value", encode(Point(1, b"")) + b"\x00"),
        ("a field too many", msgspec.msgpack.encode(["point", 1, b"", "", 5])),
        ("another tag", msgspec.msgpack.encode(["pair", 1, b"", ""])),
        ("nested deeper than anything of ours", b"\x91" * 100_000),
    ],
)
def test_only_the_canonical_encoding_is_accepted(description: str, data: bytes) -> None:
    """Two encodings of one value would be two hashes of one transaction."""
    with pytest.raises(RemoteError, match="bytes"):
        decode(data, Point)


def test_a_struct_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        Point(1, b"").x = 2  # type: ignore[misc]
