"""Failures: constant size, read by the origin alone, who names the hop (decision 037)."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallet.onion.routes import KEYS, SESSION, built
from wallet.onion.errors import UnreadableFailure
from wallet.onion.failure import FAILURE_BYTES, MAX_DATA_BYTES, Code, Failure, Told, relay, unwrap, wrap
from wallet.onion.packet import Origin, secrets
from wallet.onion.shared import derive, tag

FAILURE = Failure(Code.FEE_TOO_SMALL, b"the newest announcement")


def returned(origin: Origin, place: int, reason: bytes) -> list[bytes]:
    """How a reason of the hop in a place looks on each channel that it passes, to the origin's in the end."""
    shared, _ = secrets(origin)
    seen = [reason]
    for secret in reversed(shared[:place]):
        seen.append(relay(secret, seen[-1]))
    return seen


@pytest.mark.parametrize(("count", "place"), [(1, 0), (3, 0), (3, 1), (3, 2), (20, 19)])
def test_the_origin_learns_which_hop_failed_and_why(count: int, place: int) -> None:
    _, origin = built(count)
    reason = returned(origin, place, wrap(secrets(origin)[0][place], FAILURE))[-1]
    assert unwrap(origin, reason) == Told(place, KEYS[place].public, FAILURE)


def test_the_size_is_the_same_everywhere_whatever_was_said() -> None:
    _, origin = built(4)
    secret = secrets(origin)[0][3]
    for failure in (Failure(Code.BUSY), Failure(Code.BUSY, bytes(MAX_DATA_BYTES)), FAILURE):
        assert {len(each) for each in returned(origin, 3, wrap(secret, failure))} == {FAILURE_BYTES}


def test_no_hop_sees_what_another_saw_or_what_was_said() -> None:
    _, origin = built(4)
    seen = returned(origin, 3, wrap(secrets(origin)[0][3], FAILURE))
    pieces = [each[at : at + 8] for each in seen for at in range(0, FAILURE_BYTES - 8, 4)]
    assert len(set(pieces)) == len(pieces)
    assert not [each for each in seen if b"fee" in each or b"newest" in each]


@settings(max_examples=40, deadline=None)
@given(at=st.integers(0, FAILURE_BYTES - 1), bit=st.integers(0, 7), hops_left=st.integers(0, 2))
def test_whoever_alters_it_makes_it_unreadable(at: int, bit: int, hops_left: int) -> None:
    _, origin = built(3)
    shared, _ = secrets(origin)
    reason = bytearray(returned(origin, 2, wrap(shared[2], FAILURE))[2 - hops_left])
    reason[at] ^= 1 << bit
    for secret in reversed(shared[:hops_left]):
        reason = bytearray(relay(secret, bytes(reason)))
    with pytest.raises(UnreadableFailure, match="none of 3 hops"):
        unwrap(origin, bytes(reason))


def test_no_hop_speaks_in_the_name_of_another() -> None:
    """A hop knows its own secret: whatever it wraps, at whichever place it stands, the origin hears it from there."""
    _, origin = built(3)
    shared, _ = secrets(origin)
    reason = relay(shared[0], wrap(shared[1], Failure(Code.UNKNOWN_PAYMENT)))
    assert unwrap(origin, reason).place == 1


def test_who_could_not_open_the_packet_is_named_by_its_predecessor() -> None:
    _, origin = built(3)
    shared, _ = secrets(origin)
    for nothing in (b"", b"some words", bytes(FAILURE_BYTES + 1)):
        told = unwrap(origin, relay(shared[0], relay(shared[1], nothing)))
        assert told == Told(1, KEYS[1].public, Failure(Code.NEXT_REFUSED_PACKET))


def test_our_neighbour_has_no_predecessor_but_us() -> None:
    _, origin = built(2)
    with pytest.raises(UnreadableFailure, match="our neighbour could not open"):
        unwrap(origin, b"")
    with pytest.raises(UnreadableFailure, match="292 bytes, this one 5"):
        unwrap(origin, b"words")


@pytest.mark.parametrize("text", [b"", b"\x92\xa7nothing\xc4\x00\x01", bytes(5)])
def test_nonsense_of_an_authentic_hop_still_names_it(text: bytes) -> None:
    _, origin = built(2)
    secret = secrets(origin)[0][0]
    plain = text.ljust(FAILURE_BYTES - 16, b"\0")
    told = unwrap(origin, relay(secret, tag(derive(secret, b"failure tag"), plain) + plain))
    assert told == Told(0, KEYS[0].public, Failure(Code.BAD_PAYLOAD))


def test_too_much_to_say_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 200 bytes of data, not 201"):
        wrap(SESSION, Failure(Code.BUSY, bytes(MAX_DATA_BYTES + 1)))


@pytest.mark.parametrize("code", Code)
def test_every_code_fits_beside_the_most_data(code: Code) -> None:
    _, origin = built(1)
    failure = Failure(code, bytes(MAX_DATA_BYTES))
    assert unwrap(origin, wrap(secrets(origin)[0][0], failure)).failure == failure
