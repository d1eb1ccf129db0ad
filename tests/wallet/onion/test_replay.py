"""Packets that came before."""

from __future__ import annotations

import pytest

from tests.wallet.onion.routes import BINDING, EXPIRY_MS, KEYS, built
from wallet.onion import replay
from wallet.onion.errors import ReplayedPacket
from wallet.onion.packet import peel
from wallet.onion.replay import SeenPackets

GROUP, OTHER = b"a" * 32, b"b" * 32


def test_a_packet_is_opened_once_over_whatever_channel_it_comes() -> None:
    seen = SeenPackets()
    peeled = peel(KEYS[0], built(2)[0], BINDING)
    seen.note(peeled.seen, GROUP, EXPIRY_MS)
    again = peel(KEYS[0], built(2)[0], BINDING)
    for group in (GROUP, OTHER):
        with pytest.raises(ReplayedPacket):
            seen.note(again.seen, group, EXPIRY_MS)


def test_another_packet_of_the_same_payment_is_another() -> None:
    seen = SeenPackets()
    for session in (bytes(31) + b"\x01", bytes(31) + b"\x02"):
        seen.note(peel(KEYS[0], built(2, session)[0], BINDING).seen, GROUP, EXPIRY_MS)
    assert len(seen) == 2


def test_it_is_remembered_until_its_lock_expires_and_not_longer() -> None:
    seen = SeenPackets()
    seen.note(b"packet", GROUP, 100)
    seen.forget(100)
    with pytest.raises(ReplayedPacket):
        seen.note(b"packet", GROUP, 100)
    seen.forget(101)
    assert len(seen) == 0
    seen.note(b"packet", GROUP, 200)


def test_a_channel_that_uses_up_its_room_forgets_its_own_first_and_nobody_elses() -> None:
    seen = SeenPackets(most_of_a_group=2)
    seen.note(b"0", OTHER, 300)
    seen.note(b"1", GROUP, 300)
    seen.note(b"2", GROUP, 200)
    seen.note(b"3", GROUP, 300)
    for known, group in ((b"0", OTHER), (b"2", GROUP), (b"3", GROUP)):
        with pytest.raises(ReplayedPacket):
            seen.note(known, group, 300)
    seen.note(b"1", GROUP, 300)
    assert len(seen) == 3
    seen.forget(301)
    assert len(seen) == 0


def test_a_flood_of_packets_with_far_expiries_keeps_nobody_out_and_takes_no_memory() -> None:
    """Payments that fail cost nothing, and may expire in a week: so long no other would have passed."""
    seen = SeenPackets(most_of_a_group=5)
    for number in range(10 * replay.SPARE):
        seen.note(number.to_bytes(4, "big"), GROUP, 604_800_000 + number % 7)
    assert len(seen) == 5 and len(seen._ends) <= 2 * 5 + replay.SPARE + 1
    seen.forget(604_800_007)
    assert len(seen) == 0 and not seen._ends
