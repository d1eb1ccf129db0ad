"""Packets that came before."""

from __future__ import annotations

import pytest

from tests.wallet.onion.routes import BINDING, EXPIRY_MS, KEYS, built
from wallet.onion.errors import ReplayedPacket, TooManyPackets
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


def test_a_channel_uses_up_its_own_room_and_nobody_elses() -> None:
    seen = SeenPackets(most_of_a_group=2)
    seen.note(b"1", GROUP, 100)
    seen.note(b"2", GROUP, 200)
    with pytest.raises(TooManyPackets, match="2 packets of one channel"):
        seen.note(b"3", GROUP, 300)
    seen.note(b"3", OTHER, 300)
    seen.forget(150)
    seen.note(b"4", GROUP, 300)
