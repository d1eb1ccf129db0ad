"""Invoices: one form, signed, bounded, strict where it matters and open where it may be (decision 038)."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from bech32 import CHARSET, convertbits
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Kind, SigningKey
from layer1.errors import Refused, RemoteError
from layer1.ledger.genesis import MAX_MONEY
from tests.wallet.invoices.samples import CHAIN, FULL, HINT, PAYEE, PLAIN, forced, signed
from wallet.invoices.bech32m import decode_text, encode_text
from wallet.invoices.invoice import (
    MAX_TEXT,
    PREFIX,
    Feature,
    Hint,
    Invoice,
    format_invoice,
    parse_invoice,
    sign_invoice,
)

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def refused(text: str, code: str = "bad_invoice") -> str:
    """Why a text is not taken for an invoice."""
    with pytest.raises(Refused) as caught:
        parse_invoice(text)
    assert caught.value.code == code
    return caught.value.message


# --- Bech32m ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "A1LQFN3A",
        "a1lqfn3a",
        "abcdef1l7aum6echk45nj3s0wdvt2fg8x9yrzpqzd3ryx",
        "split1checkupstagehandshakeupstreamerranterredcaperredlc445v",
        "?1v759aa",
        "an83characterlonghumanreadablepartthatcontainsthetheexcludedcharactersbioandnumber11sg7hg6",
    ],
)
def test_bech32m_is_that_of_bip_350(text: str) -> None:
    """The document's valid strings, of which bytes alone are read here: the checksum is what is tried."""
    prefix = text[: text.rindex("1")].lower()
    words = [CHARSET.find(each) for each in text[len(prefix) + 1 : -6].lower()]
    if convertbits(words, 5, 8, False) is not None:
        assert encode_text(prefix, decode_text(prefix, text)) == text.lower()
    else:  # the checksum is right, and its words are no bytes
        with pytest.raises(RemoteError, match="bits do not add up"):
            decode_text(prefix, text)


@pytest.mark.parametrize("text", ["M1VUXWEZ", "a1lqfn3b", "A1lqfn3a", "abcdef1qpzry9x8gf2tvdw0s3jn54khce6mua7lmqqqxw"])
def test_bech32m_refuses_what_bip_350_calls_invalid_and_what_is_bech32(text: str) -> None:
    with pytest.raises(RemoteError):
        decode_text(text[: text.rindex("1")].lower(), text)


@given(st.binary(max_size=300))
def test_bytes_come_back(data: bytes) -> None:
    text = encode_text(PREFIX, data)
    assert decode_text(PREFIX, text) == decode_text(PREFIX, text.upper()) == data


# --- what is read ----------------------------------------------------------------------------------------------------


names = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
keys = st.binary(min_size=32, max_size=32)
invoices = st.builds(
    replace,
    st.just(PLAIN),
    chain_id=keys,
    payment_hash=keys,
    payment_secret=st.binary(min_size=16, max_size=16),
    amount=st.none() | st.integers(1, MAX_MONEY),
    expires_ms=st.integers(PLAIN.created_ms + 1, PLAIN.created_ms + 86_400_000),
    lock_ms=st.integers(0, 86_400_000),
    description=st.text(max_size=60).filter(lambda text: not text or text.isprintable()),
    hints=st.lists(st.builds(Hint, keys, keys, st.integers(0, 1_000), st.integers(0, 1_000_000)), max_size=4).map(
        tuple
    ),
    features=st.dictionaries(names, st.binary(max_size=128), max_size=8).map(
        lambda found: tuple(Feature(name, required=False, value=found[name]) for name in sorted(found))
    ),
)


@settings(max_examples=50, deadline=None)
@given(invoices)
def test_an_invoice_comes_back_as_it_was_signed(invoice: Invoice) -> None:
    made = sign_invoice(PAYEE, invoice)
    text = format_invoice(made)
    assert parse_invoice(text) == parse_invoice(f"  {text.upper()}\n") == made
    assert len(text) <= MAX_TEXT


def test_all_bounds_used_up_fit_a_text_and_a_qr_code() -> None:
    features = tuple(Feature(f"{letter:x<32}", required=False, value=bytes(128)) for letter in "abcdefgh")
    most = signed(
        amount=MAX_MONEY, description="x" * 256, hints=(replace(HINT, base_fee=MAX_MONEY),) * 4, features=features
    )
    assert len(format_invoice(most)) <= MAX_TEXT <= 4_296


def test_golden_invoices() -> None:
    """What was signed once is read for ever, byte by byte."""
    assert format_invoice(sign_invoice(PAYEE, PLAIN)) == GOLDEN_PLAIN
    assert parse_invoice(GOLDEN_FULL) == sign_invoice(PAYEE, FULL)


GOLDEN_PLAIN = (
    "wedgeinv1n5quggrcqz5r9s8xhmfrfznxqxs97zaarp7ql9jfmcfdhuk4ym0l6j0lg8zzqlyjqnfktmmx277as7nwcf0n699ppas7za53r4vq5"
    "pn84ws0eergcssw9h9fjnqr28kzxalnlnek54zr9qhgjxetgpdqfjy594zt29lwz8kyzqqqzqsrqszsvpcgpy9qkrqdpc8u6vpeeuqqqqvtelj"
    "ksqx0qqqqrz707v36pn02vz4hgam0yp3k7enxv4jh8yysc3q0hq9px0rzpktjfuxl7uv6wng3s79ze3j4rwx3kw5u4hg28sdmlujdq93g36rcd"
    "qrtdeqyy6f47wegrmulgjdtea7yce39rarqy8hcqu77nf9g"
)
GOLDEN_FULL = (
    "wedgeinv1n5quggrcqz5r9s8xhmfrfznxqxs97zaarp7ql9jfmcfdhuk4ym0l6j0lg8zzqlyjqnfktmmx277as7nwcf0n699ppas7za53r4vq5"
    "pn84ws0eergcssw9h9fjnqr28kzxalnlnek54zr9qhgjxetgpdqfjy594zt29lwz8kyzqqqzqsrqszsvpcgpy9qkrqdpc8upncqqqqchnl9dqq"
    "v7qqqqx9uluer5rx75c93v45kugztcwjxvenrdpjkug8znz2e99xyyqak5faue6m2gttz5w5dq2n0p4ek2vs4wuw7ysax8tqy3gvtt8dzn3pqn"
    "k93qd4u76h0cjjmsud2j9teh39svj8tlv2kr9r96gpdamxx7h0qrngp7j2vggpmdgnmen4k5skk9gag6q4x7rtnv5ep2acaufp6vwkqfzsckkw"
    "698zzp8vtzqmtea4wl399hpc64y2hn0ztqeywh7c4vx2xt5szmmkvdaw7qrxsrayjjwjxsmmvvnpvgqyn54kxzar9wtpvgyrhdpshgetkv4ezq"
    "6t5ypekz7tnc3qvgyda5f0ypt2fvrz4vpze0v97yl3zjax7qs68caxrhmwsrq60lgtq3nhtn95euv6anm3umdwp78q8wx7endntfek2c2kdcgf"
    "p8mzlpya5jtce"
)


# --- what is refused -------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(len(PREFIX) + 1, 10_000), st.sampled_from(ALPHABET))
def test_a_wrong_character_is_found(place: int, character: str) -> None:
    text = format_invoice(signed())
    place = len(PREFIX) + 1 + place % (len(text) - len(PREFIX) - 1)
    if text[place] != character:
        assert "copy it again" in refused(text[:place] + character + text[place + 1 :])


@settings(max_examples=50, deadline=None)
@given(st.data())
def test_whoever_alters_it_knowingly_is_found_by_the_signature(data: st.DataObject) -> None:
    """With the checksum made anew: every bit counts."""
    whole = bytearray(decode_text(PREFIX, format_invoice(sign_invoice(PAYEE, FULL))))
    whole[data.draw(st.integers(0, len(whole) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(Refused) as caught:
        parse_invoice(encode_text(PREFIX, bytes(whole)))
    assert caught.value.code in ("bad_invoice", "newer_invoice", "unknown_feature")


def test_each_field_is_signed() -> None:
    others: dict[str, Any] = {
        "chain_id": bytes(32),
        "payee": SigningKey(bytes(32)).public,
        "payment_hash": bytes(32),
        "payment_secret": bytes(16),
        "amount": 12_344,
        "created_ms": PLAIN.created_ms - 1,
        "expires_ms": PLAIN.expires_ms + 1,
        "lock_ms": 0,
        "description": "two coffee",
        "hints": (HINT,),
        "features": (Feature("hold", required=False),),
    }
    assert set(others) | {"version", "signature"} == set(Invoice.__struct_fields__)
    for name, value in others.items():
        assert "did not sign" in refused(format_invoice(replace(signed(), **{name: value}))), name


def test_a_signature_for_something_else_is_none() -> None:
    statement = PLAIN.statement()
    for kind in Kind:
        if kind is not Kind.INVOICE:
            wrong = replace(PLAIN, signature=PAYEE.sign(kind, CHAIN, statement))
            assert "did not sign" in refused(format_invoice(wrong))
    other_chain = replace(PLAIN, signature=PAYEE.sign(Kind.INVOICE, bytes(32), statement))
    assert "did not sign" in refused(format_invoice(other_chain))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 0}, "from 1 to 1, not 0"),
        ({"chain_id": b"x"}, "chain has 32 bytes, this one's 1"),
        ({"payment_hash": bytes(31)}, "payment hash has 32 bytes, this one's 31"),
        ({"payment_secret": bytes(32)}, "payment secret has 16 bytes, this one's 32"),
        ({"amount": 0}, f"from 1 to {MAX_MONEY}, not 0"),
        ({"amount": MAX_MONEY + 1}, f"not {MAX_MONEY + 1}"),
        ({"amount": -5}, "not -5"),
        ({"created_ms": -1}, "not -1"),
        ({"expires_ms": PLAIN.created_ms}, f"not {PLAIN.created_ms}"),
        ({"expires_ms": PLAIN.created_ms + 367 * 86_400_000}, "the time of expiry"),
        ({"lock_ms": -1}, "the least time of a lock"),
        ({"lock_ms": 31 * 86_400_000}, "the least time of a lock"),
        ({"description": "x" * 257}, "at most 256 bytes of description, not 257"),
        ({"description": "ä" * 129}, "not 258"),
        ({"description": "one\ntwo"}, "one line"),
        ({"description": "\x1b[31mred"}, "one line"),
        ({"description": "a\u202eb"}, "one line"),
        ({"hints": (HINT,) * 5}, "at most 4 hints, not 5"),
        ({"hints": (replace(HINT, node=b""),)}, "hint's node has 32 bytes"),
        ({"hints": (replace(HINT, group_id=b""),)}, "hint's channel has 32 bytes"),
        ({"hints": (replace(HINT, base_fee=-1),)}, "a hint's base fee"),
        ({"hints": (replace(HINT, fee_ppm=1_000_001),)}, "a hint's fee per million"),
        ({"features": tuple(Feature(f"f{n}", required=False) for n in range(9))}, "at most 8 features, not 9"),
        ({"features": (Feature("A", required=False),)}, "small letters"),
        ({"features": (Feature("", required=False),)}, "small letters"),
        ({"features": (Feature("x" * 33, required=False),)}, "at most 32"),
        ({"features": (Feature("x", required=False, value=bytes(129)),)}, "at most 128 bytes of x, not 129"),
        ({"features": (Feature("b", required=False), Feature("a", required=False))}, "order of their names"),
        ({"features": (Feature("a", required=False), Feature("a", required=True))}, "stand once"),
    ],
)
def test_a_field_out_of_bounds_is_refused_by_both_sides(changes: dict[str, Any], words: str) -> None:
    assert words in refused(format_invoice(forced(**changes)))
    with pytest.raises(Refused) as caught:
        signed(**changes)
    assert words in caught.value.message


def test_what_is_required_and_unknown_is_refused_by_name() -> None:
    features = (
        Feature("blinded-paths", required=True),
        Feature("hold", required=True),
        Feature("zebra", required=True),
    )
    message = refused(format_invoice(signed(features=features)), "unknown_feature")
    assert "blinded-paths, zebra" in message
    assert "hold" not in message


def test_what_is_unknown_and_not_required_is_ignored() -> None:
    invoice = signed(features=(Feature("blinded-paths", required=False, value=b"something"),))
    assert parse_invoice(format_invoice(invoice)).has("blinded-paths")


def test_a_later_version_is_told_from_nonsense() -> None:
    later = encode_text(PREFIX, encode((2, "whatever", "that", "means")))
    assert "version 2, this wallet knows 1" in refused(later, "newer_invoice")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "does not begin with wedgeinv1"),
        ("wedge1qqq", "does not begin with wedgeinv1"),
        ("wedgeinv1", "checksum"),
        ("wedgeinv1qqqqqq", "checksum"),
        ("wedgeinv1b", "character 10, 'b', is none"),
        ("wedgeinv1Q", "capitals and small letters"),
        ("wedgeinv1 q", "character 10, ' ', is none"),
        ("wedgeinv1\N{LATIN SMALL LETTER DOTLESS I}q", "are none of its alphabet"),
        ("WEDGEINV1\N{KELVIN SIGN}Q", "are none of its alphabet"),
        ("x" * 4_201, "at most 4200 characters, this text 4201"),
    ],
)
def test_what_is_no_invoice_is_refused_in_words(text: str, words: str) -> None:
    assert words in refused(text)


def test_another_form_of_the_same_value_is_refused() -> None:
    """One invoice has one text: what says the same in more bytes is refused, and so are bytes behind the last."""
    whole = decode_text(PREFIX, format_invoice(signed()))
    fields = msgspec.msgpack.decode(whole)
    assert msgspec.msgpack.encode(fields) == whole
    longer = b"\xdc\x00\x0d" + whole[1:]  # array 16 in place of fixarray
    assert msgspec.msgpack.decode(longer) == fields
    assert "not well made" in refused(encode_text(PREFIX, longer))
    assert "not well made" in refused(encode_text(PREFIX, whole + b"\x00"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=400))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    with pytest.raises(Refused):
        parse_invoice(encode_text(PREFIX, data))


@given(st.text(max_size=100))
def test_no_text_does_more_than_be_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_invoice(text)
