"""Onion packets: what each hop learns, what it does not, and what is refused (decision 037)."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from layer1.crypto import SigningKey, format_address
from layer1.errors import Refused, RemoteError
from layer1.ledger.genesis import MAX_MONEY
from tests.wallet.onion.routes import BINDING, CHAIN, EXPIRY_MS, KEYS, SECRET, SESSION, built, peel_all, route_of
from wallet.onion.errors import BadPayload, MalformedPacket, TamperedPacket
from wallet.onion.packet import (
    FRAME_BYTES,
    FRAMES_BYTES,
    PACKET_BYTES,
    Binding,
    build,
    build_spontaneous,
    parse,
    peel,
    secrets,
)
from wallet.onion.payload import Final, Forward, Payload, Spontaneous, pack, unpack
from wallet.onion.route import MAX_HOPS, Hop, Route, check_route
from wallet.onion.shared import agreement_key, derive, multiply, private_agreement_key, public_of, stream, xor

LOW_ORDER = [
    bytes(32),
    b"\x01" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
]


@pytest.mark.parametrize("count", [1, 2, 3, MAX_HOPS])
def test_each_hop_learns_the_next_one_and_what_to_offer_it(count: int) -> None:
    route = route_of(count)
    packet, _ = built(count)
    found = [each.payload for each in peel_all(packet, count)]
    assert found[:-1] == [Forward(hop.node, hop.amount) for hop in route.hops[1:]]
    assert found[-1] == Final(route.received, 5_000, SECRET)


@pytest.mark.parametrize("count", [1, 2, 7, MAX_HOPS])
def test_the_size_is_the_same_at_each_hop_of_each_route(count: int) -> None:
    packet, _ = built(count)
    sizes = {len(packet)} | {len(each.packet) for each in peel_all(packet, count)[:-1]}
    assert sizes == {PACKET_BYTES}
    assert PACKET_BYTES <= 1_366, "what a command Offer carries"


def test_a_spontaneous_payment_carries_the_preimage_for_the_payee() -> None:
    packet, _ = build_spontaneous(route_of(2), BINDING, SESSION, total=1_000, preimage=bytes(32))
    first, last = peel_all(packet, 2)
    assert isinstance(first.payload, Forward)
    assert last.payload == Spontaneous(1_000, 1_000, bytes(32))


def test_no_two_hops_see_anything_that_is_the_same() -> None:
    packet, _ = built(5)
    seen = [parse(packet)] + [parse(each.packet) for each in peel_all(packet, 5)[:-1]]
    assert len({each.ephemeral for each in seen}) == len({each.tag for each in seen}) == 5
    pieces = [each.frames[start : start + 8] for each in seen for start in range(0, FRAMES_BYTES - 8, 4)]
    assert len(set(pieces)) == len(pieces)


def test_two_packets_of_one_payment_have_nothing_in_common() -> None:
    one, other = parse(built(2)[0]), parse(built(2, session=bytes(31) + b"\x05")[0])
    assert one.ephemeral != other.ephemeral
    assert not {one.frames[at : at + 8] for at in range(FRAMES_BYTES)} & {
        other.frames[at : at + 8] for at in range(FRAMES_BYTES - 7)
    }


@pytest.mark.parametrize("count", [1, 2, 19])
def test_the_payee_cannot_count_those_before_it(count: int) -> None:
    """What no hop uses is noise: with zeros, the last hop would see where they end."""
    packet, origin = built(count)
    shared, _ = secrets(origin)
    last = parse(packet) if count == 1 else parse(peel_all(packet, count)[-2].packet)
    opened = xor(last.frames, stream(derive(shared[-1], b"frames"), FRAMES_BYTES))
    rest = opened[FRAME_BYTES:]
    assert max(rest.count(value) for value in set(rest)) < 25, "about 5 of each value are noise"


@pytest.mark.parametrize("count", [1, 2, 3, MAX_HOPS])
def test_the_filler_is_what_grows_at_the_end_while_hops_peel(count: int) -> None:
    """A dumb twin: let frames of zeros pass all hops, and look at what stands at their end."""
    _, origin = built(count)
    shared, _ = secrets(origin)
    frames = bytes(FRAMES_BYTES)
    for secret in shared[:-1]:
        hidden = stream(derive(secret, b"frames"), FRAMES_BYTES + FRAME_BYTES)
        frames = xor(frames + bytes(FRAME_BYTES), hidden)[FRAME_BYTES:]
    grown = (count - 1) * FRAME_BYTES
    packet, _ = built(count)
    reached = parse(packet if count == 1 else peel_all(packet, count)[-2].packet)
    assert reached.frames[FRAMES_BYTES - grown :] == frames[FRAMES_BYTES - grown :]


@settings(max_examples=40, deadline=None)
@given(place=st.integers(0, 2), at=st.integers(0, PACKET_BYTES - 1), bit=st.integers(0, 7))
def test_every_flipped_bit_is_refused_by_who_sees_it_first(place: int, at: int, bit: int) -> None:
    packet, _ = built(3)
    arriving = [packet] + [each.packet for each in peel_all(packet, 3)]
    altered = bytearray(arriving[place])
    altered[at] ^= 1 << bit
    with pytest.raises((TamperedPacket, MalformedPacket)):
        peel(KEYS[place], bytes(altered), BINDING)


@pytest.mark.parametrize("data", [b"", bytes(PACKET_BYTES - 1), bytes(PACKET_BYTES + 1)])
def test_another_size_is_refused_with_both_numbers(data: bytes) -> None:
    with pytest.raises(MalformedPacket, match=f"{PACKET_BYTES} bytes, this one {len(data)}"):
        peel(KEYS[0], data, BINDING)


def test_another_version_is_refused() -> None:
    with pytest.raises(MalformedPacket, match="version 1, this one of 2"):
        peel(KEYS[0], b"\x02" + built(1)[0][1:], BINDING)


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_key_that_makes_every_secret_the_same_is_refused(point: bytes) -> None:
    with pytest.raises(MalformedPacket, match="no key"):
        peel(KEYS[0], b"\x01" + point + built(1)[0][33:], BINDING)


@pytest.mark.parametrize(
    "other",
    [
        replace(BINDING, chain_id=bytes(32)),
        replace(BINDING, payment_hash=bytes(32)),
        replace(BINDING, expiry_ms=EXPIRY_MS + 1),
    ],
)
def test_with_another_lock_than_its_own_it_is_refused(other: Binding) -> None:
    """The hash and the expiry are not in the packet; it is bound to them."""
    with pytest.raises(TamperedPacket, match="another node or for a lock of other hash or expiry"):
        peel(KEYS[0], built(2)[0], other)


@pytest.mark.parametrize("other", [Binding(b"", bytes(32), 1), Binding(CHAIN, b"", 1), Binding(CHAIN, bytes(32), -1)])
def test_a_lock_that_cannot_be_is_refused(other: Binding) -> None:
    with pytest.raises(RemoteError, match="cannot belong"):
        peel(KEYS[0], built(1)[0], other)


def test_who_it_is_not_for_cannot_open_it() -> None:
    with pytest.raises(TamperedPacket):
        peel(KEYS[1], built(2)[0], BINDING)


def test_an_identity_that_is_no_point_is_refused() -> None:
    route = replace(route_of(1), hops=(Hop(b"\xff" * 32, 5),))
    with pytest.raises(MalformedPacket, match="nobody's identity"):
        build(route, BINDING, SESSION, total=5, payment_secret=SECRET)


def test_nonsense_that_is_authentic_is_told_from_tampering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wallet.onion.packet.pack", lambda _: b"\x09" + bytes(48))
    packet, origin = build(route_of(1), BINDING, SESSION, total=5_000, payment_secret=SECRET)
    with pytest.raises(BadPayload, match="kind 1 to 3") as caught:
        peel(KEYS[0], packet, BINDING)
    assert caught.value.secret == secrets(origin)[0][0], "so that the hop can answer the origin"


def test_both_ends_agree_on_the_key_of_an_identity() -> None:
    for key in KEYS[:4]:
        assert public_of(private_agreement_key(key)) == agreement_key(key.public)
    one, other = private_agreement_key(KEYS[0]), private_agreement_key(KEYS[1])
    assert multiply(one, public_of(other)) == multiply(other, public_of(one))


def test_a_session_is_of_32_bytes_and_the_locks_expiry_that_of_the_route() -> None:
    with pytest.raises(ValueError, match="32 bytes, not 3"):
        built(1, session=b"abc")
    with pytest.raises(ValueError, match="the lock expires at"):
        build(replace(route_of(1), expiry_ms=7), BINDING, SESSION, total=5_000, payment_secret=SECRET)


def test_golden_packet() -> None:
    """What is built today opens for ever: the bytes are those of the first release."""
    packet, _ = built(3)
    assert hashlib.sha256(packet).hexdigest() == GOLDEN
    assert packet[:33].hex() == "01" + GOLDEN_KEY


GOLDEN = "4c0dd75cdd99132b6dac116d1bc99807c69db04a89625d332a95a0772193bc44"
GOLDEN_KEY = "648af259f80c78842a3d787b225d15d9bbd4ee617f6c93823b5289590a479a28"


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (replace(route_of(2), hops=()), "1 to 20 hops, this one 0"),
        (replace(route_of(2), hops=route_of(1).hops * 21), "this one 21"),
        (replace(route_of(2), hops=(Hop(b"short", 5),)), "32 bytes, this one 5"),
        (replace(route_of(2), hops=(Hop(KEYS[0].public, 0),)), "not of 0|this one of 0"),
        (replace(route_of(2), hops=(Hop(KEYS[0].public, MAX_MONEY + 1),)), str(MAX_MONEY)),
        (replace(route_of(2), hops=(Hop(KEYS[0].public, 5), Hop(KEYS[0].public, 5))), "nobody twice"),
        (replace(route_of(2), hops=(Hop(KEYS[0].public, 5), Hop(KEYS[1].public, 6))), "at a loss"),
        (replace(route_of(2), expiry_ms=0), "ledger clock"),
    ],
)
def test_a_route_that_is_none_is_refused(broken: Route, words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        check_route(broken)
    assert caught.value.code == "bad_route"


def test_what_a_route_says_of_itself() -> None:
    route = route_of(3, received=100, fee=2)
    assert (route.sent, route.received, route.fee, route.payee) == (104, 100, 4, KEYS[2].public)
    assert format_address(route.payee).startswith("wedge1")


payloads = st.one_of(
    st.builds(Forward, st.binary(min_size=32, max_size=32), st.integers(1, MAX_MONEY)),
    st.builds(Final, st.integers(1, 1_000), st.integers(1_000, MAX_MONEY), st.binary(min_size=16, max_size=16)),
    st.builds(Spontaneous, st.integers(1, 1_000), st.integers(1_000, MAX_MONEY), st.binary(min_size=32, max_size=32)),
)


@given(payloads)
def test_a_payload_comes_back_as_it_was(payload: Payload) -> None:
    assert unpack(pack(payload)) == payload


@given(st.binary(min_size=49, max_size=49))
def test_a_payload_has_one_form(data: bytes) -> None:
    try:
        payload = unpack(data)
    except ValueError:
        return
    assert pack(payload) == data


@pytest.mark.parametrize(
    ("payload", "words"),
    [
        (Forward(bytes(32), 0), "not 0"),
        (Forward(bytes(31), 1), "not 31"),
        (Final(2, 1, SECRET), "not 1"),
        (Final(1, MAX_MONEY + 1, SECRET), "not"),
        (Final(1, 1, b""), "16 bytes, not 0"),
        (Spontaneous(1, 1, b""), "32 bytes, not 0"),
    ],
)
def test_a_payload_out_of_bounds_is_refused(payload: Payload, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pack(payload)


def test_what_a_payload_does_not_use_is_zero() -> None:
    with pytest.raises(ValueError, match="not zero"):
        unpack(pack(Forward(bytes(32), 1))[:-1] + b"\x01")
    with pytest.raises(ValueError, match="49 bytes, not 50"):
        unpack(pack(Forward(bytes(32), 1)) + b"\x00")


def test_a_key_of_another_wallet_is_another_key() -> None:
    assert agreement_key(SigningKey(bytes(32)).public) != agreement_key(KEYS[0].public)
