"""Keys, addresses, hashes and signatures."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1.crypto import (
    ADDRESS_PREFIX,
    ZERO_HASH,
    Domain,
    Kind,
    SigningKey,
    digest,
    format_address,
    parse_address,
    verify,
)
from layer1.errors import Refused

KEY = SigningKey(bytes(range(32)))
CHAIN = digest(Domain.GENESIS, b"a chain")
OTHER_CHAIN = digest(Domain.GENESIS, b"another chain")


def test_a_signature_verifies_as_what_it_was_made_for() -> None:
    assert verify(KEY.public, KEY.sign(Kind.STATE, CHAIN, b"data"), Kind.STATE, CHAIN, b"data")


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind is not Kind.STATE])
def test_a_signature_of_one_kind_verifies_as_no_other(kind: Kind) -> None:
    """groups.md: "A signature made for one kind, chain, group or epoch verifies as no other."."""
    assert not verify(KEY.public, KEY.sign(Kind.STATE, CHAIN, b"data"), kind, CHAIN, b"data")


def test_a_signature_of_one_chain_verifies_on_no_other() -> None:
    assert not verify(KEY.public, KEY.sign(Kind.STATE, CHAIN, b"data"), Kind.STATE, OTHER_CHAIN, b"data")


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_verifying_odd_input_answers_no_and_never_raises(public: bytes, signature: bytes) -> None:
    assert not verify(public, signature, Kind.STATE, CHAIN, b"data")


@given(st.integers(0, 64 * 8 - 1))
def test_no_bit_of_a_signature_can_be_changed(bit: int) -> None:
    signature = bytearray(KEY.sign(Kind.STATE, CHAIN, b"data"))
    signature[bit // 8] ^= 1 << bit % 8
    assert not verify(KEY.public, bytes(signature), Kind.STATE, CHAIN, b"data")


def test_domains_and_kinds_fit_their_fields_and_differ() -> None:
    assert all(len(domain.value) <= 16 for domain in Domain)
    assert all(len(kind.value) <= 16 for kind in Kind)
    assert len({digest(domain, b"") for domain in Domain}) == len(Domain)


@given(st.binary(min_size=32, max_size=32))
def test_an_address_reads_back(public: bytes) -> None:
    text = format_address(public)
    assert text.startswith(ADDRESS_PREFIX + "1")
    assert parse_address(text) == public


@given(st.integers(6, 63), st.sampled_from("qpzry9x8gf2tvdw0s3jn54khce6mua7l"))
def test_one_wrong_character_is_noticed(position: int, character: str) -> None:
    text = format_address(KEY.public)
    damaged = text[:position] + character + text[position + 1 :]
    if damaged == text:
        assert parse_address(damaged) == KEY.public
        return
    with pytest.raises(Refused) as refusal:
        parse_address(damaged)
    assert refusal.value.code == "bad_address"


@given(st.text(max_size=120))
def test_no_text_crashes_the_address_reader(text: str) -> None:
    with pytest.raises(Refused):
        parse_address(text)


def test_a_key_never_shows_its_secret() -> None:
    """style.md: secrets never reach a `repr`, and a pickle would carry them away."""
    assert KEY.seed().hex() not in repr(KEY)
    assert str(KEY) == f"SigningKey(public={KEY.public.hex()})"
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(KEY)


def test_a_seed_of_the_wrong_length_is_refused_with_both_numbers() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 31"):
        SigningKey(bytes(31))


def test_fresh_keys_differ() -> None:
    assert SigningKey.generate().public != SigningKey.generate().public
    assert not any(ZERO_HASH)
