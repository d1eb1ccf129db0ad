"""A body sealed for its owner (rules 12 and 17): opaque, whole, and bound to its header."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from layer1.codec import encode
from layer1.crypto import ZERO_HASH
from layer1.errors import LocalError, RemoteError
from layer1.ledger.agreements import Body, GroupHeader
from layer2.sealing import STEP_BYTES, TAG_BYTES, open_body, seal_body, sealed_bytes
from tests.layer2.harness import CHAIN, key

OWNER, OTHER = key("owner"), key("other")


def made(
    version: int = 7, balances: tuple[int, ...] = (900, 1100), machine_state: bytes = b""
) -> tuple[GroupHeader, Body]:
    body = Body(balances, machine_state, (3, 4), b"s" * 16)
    return GroupHeader(CHAIN, b"g" * 32, 0, version, ZERO_HASH, ZERO_HASH, body.hash), body


@given(st.binary(max_size=4_096), st.integers(0, 2**53 - 1))
def test_the_owner_gets_back_what_it_sealed(machine_state: bytes, units: int) -> None:
    header, body = made(balances=(units, 0), machine_state=machine_state)
    sealed = seal_body(OWNER, header, body)
    assert open_body(OWNER, header, sealed) == body
    assert len(sealed) == sealed_bytes(len(encode(body)))


def test_nobody_else_opens_it() -> None:
    """ "An opaque encrypted body": the keeper has header and sealed body, and no key."""
    header, body = made()
    with pytest.raises(RemoteError):
        open_body(OTHER, header, seal_body(OWNER, header, body))


@pytest.mark.parametrize("field", [name for name in GroupHeader.__struct_fields__ if name != "body_hash"])
def test_it_is_bound_to_each_field_of_its_header(field: str) -> None:
    """Chain, group, epoch, version and what came before: a sealed body shown with another header opens nothing."""
    header, body = made()
    value = getattr(header, field)
    other = structs.replace(header, **{field: value + 1 if isinstance(value, int) else b"x" * 32})
    with pytest.raises(RemoteError, match=f"version {other.version}"):
        open_body(OWNER, other, seal_body(OWNER, header, body))


@pytest.mark.parametrize("place", [0, 60, STEP_BYTES - 1, STEP_BYTES, STEP_BYTES + TAG_BYTES - 1])
def test_a_keeper_that_alters_a_byte_is_noticed(place: int) -> None:
    header, body = made()
    sealed = bytearray(seal_body(OWNER, header, body))
    sealed[place] ^= 1
    with pytest.raises(RemoteError, match="ask another keeper"):
        open_body(OWNER, header, bytes(sealed))


@pytest.mark.parametrize("sealed", [b"", b"\0" * 16, b"\0" * 15, b"\0" * 1_000])
def test_what_was_never_sealed_opens_nothing(sealed: bytes) -> None:
    with pytest.raises(RemoteError):
        open_body(OWNER, made()[0], sealed)


def test_no_key_encrypts_two_bodies() -> None:
    """A nonce that stands still is safe under a key of one plaintext: another body has another header, and key."""
    (header, body), (_, other) = made(), made(balances=(1, 1999))
    with pytest.raises(LocalError, match="seal the pair"):
        seal_body(OWNER, header, other)
    assert seal_body(OWNER, header, body) == seal_body(OWNER, header, body)
    later, _ = made(version=8)
    assert seal_body(OWNER, later, body)[:16] != seal_body(OWNER, header, body)[:16]


def test_its_size_does_not_tell_the_amounts() -> None:
    sizes = {len(seal_body(OWNER, *made(balances=(units, 0)))) for units in (0, 127, 128, 70_000, 2**53 - 1)}
    assert sizes == {STEP_BYTES + TAG_BYTES}
