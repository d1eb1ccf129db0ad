"""Broken variants of the onion. Each must die by the tests here."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import pytest

from tests.wallet.onion import test_failure as t_failure
from tests.wallet.onion import test_packet as t_packet
from tests.wallet.onion import test_replay as t_replay
from tests.wallet.onion.routes import BINDING, KEYS, built, forget
from wallet.onion import failure, packet, payload, replay, route, shared
from wallet.onion.errors import MalformedPacket, OnionError, TamperedPacket
from wallet.onion.route import Hop, Route

Patch = pytest.MonkeyPatch


def leaves_the_lock_out_of_the_tag(patch: Patch) -> None:
    patch.setattr(packet, "_tag", lambda secret, frames, _: shared.tag(shared.derive(secret, b"tag"), frames))


def leaves_the_expiry_out_of_the_tag(patch: Patch) -> None:
    patch.setattr(packet.Binding, "data", lambda self: self.chain_id + self.payment_hash)


def tags_the_first_frame_only(patch: Patch) -> None:
    patch.setattr(
        packet,
        "_tag",
        lambda secret, frames, binding: shared.tag(
            shared.derive(secret, b"tag"), binding.data(), frames[: packet.FRAME_BYTES]
        ),
    )


def checks_no_tag(patch: Patch) -> None:
    patch.setattr(hmac, "compare_digest", lambda *_: True)


def shows_every_hop_one_key(patch: Patch) -> None:
    """Nothing is blinded: the hops compare what they saw, and know that it was one payment."""
    one: list[bytes] = []

    def blind(_: bytes, ephemeral: bytes) -> bytes:
        return ephemeral

    original = shared.multiply

    def multiply(private: bytes, public: bytes) -> bytes:
        return public if private in one else original(private, public)

    def derive(secret: bytes, purpose: bytes) -> bytes:
        key = shared.derive(secret, purpose)
        if purpose == b"blind":
            one.append(key)
        return key

    patch.setattr(packet, "_blind", blind)
    patch.setattr(packet, "multiply", multiply)
    patch.setattr(packet, "derive", derive)


def fills_with_zeros(patch: Patch) -> None:
    """What no hop uses is zero for the last one: it can count those before it."""
    original = shared.stream
    noise: list[bytes] = []

    def derive(secret: bytes, purpose: bytes) -> bytes:
        key = shared.derive(secret, purpose)
        if purpose == b"noise":
            noise.append(key)
        return key

    patch.setattr(packet, "derive", derive)
    patch.setattr(packet, "stream", lambda key, size: bytes(size) if key in noise else original(key, size))


def forgets_the_filler(patch: Patch) -> None:
    patch.setattr(packet, "_filler", lambda _: b"")


def one_stream_for_all(patch: Patch) -> None:
    """The secret does not depend on the key that the hop sees: a key that was turned round is as good."""
    patch.setattr(packet, "shared_secret", lambda product, _ephemeral, _node: product)


def accepts_longer_packets(patch: Patch) -> None:
    original = packet.parse
    patch.setattr(packet, "parse", lambda data: original(data[: packet.PACKET_BYTES]))


def accepts_any_version(patch: Patch) -> None:
    original = packet.parse
    patch.setattr(packet, "parse", lambda data: original(packet.VERSION + data[1:]))


def takes_any_key(patch: Patch) -> None:
    original = shared.multiply

    def multiply(private: bytes, public: bytes) -> bytes:
        try:
            return original(private, public)
        except MalformedPacket:
            return bytes(32)

    patch.setattr(packet, "multiply", multiply)


def reads_what_is_not_used(patch: Patch) -> None:
    patch.setattr(payload, "unpack", payload._read)
    patch.setattr(t_packet, "unpack", payload.unpack)


def forwards_at_a_loss(patch: Patch) -> None:
    patch.setattr(route, "pairwise", lambda _: ())


def remembers_no_packet(patch: Patch) -> None:
    patch.setattr(replay.SeenPackets, "note", lambda *_: None)


def remembers_by_channel(patch: Patch) -> None:
    original = replay.SeenPackets.note
    patch.setattr(
        replay.SeenPackets, "note", lambda self, seen, group, end: original(self, seen + group[:1], group, end)
    )


def forgets_at_the_expiry(patch: Patch) -> None:
    original = replay.SeenPackets.forget
    patch.setattr(replay.SeenPackets, "forget", lambda self, clock_ms: original(self, clock_ms + 1))


def shares_the_room(patch: Patch) -> None:
    original = replay.SeenPackets.note
    patch.setattr(replay.SeenPackets, "note", lambda self, seen, _, end: original(self, seen, b"", end))


def blames_the_first(patch: Patch) -> None:
    """No tag is checked: whoever is first on the route said it."""
    patch.setattr(hmac, "compare_digest", lambda *_: True)


def hides_nothing_on_the_way_back(patch: Patch) -> None:
    patch.setattr(failure, "stream", lambda _, size: bytes(size))


def sends_failures_as_long_as_they_are(patch: Patch) -> None:
    patch.setattr(failure, "_TEXT_BYTES", 0)


def passes_on_what_is_no_failure(patch: Patch) -> None:
    original = failure.relay
    patch.setattr(t_failure, "relay", lambda secret, reason: original(secret, reason.ljust(292, b"\0")[:292]))


def turned_round_is_refused() -> None:
    """The highest bit of a key means nothing to X25519; it is the same point, and another packet."""
    data, _ = built(2)
    altered = bytearray(data)
    altered[32] ^= 0x80
    with pytest.raises(TamperedPacket):
        packet.peel(KEYS[0], bytes(altered), BINDING)


def expiry_is_bound() -> None:
    t_packet.test_with_another_lock_than_its_own_it_is_refused(
        packet.Binding(BINDING.chain_id, BINDING.payment_hash, BINDING.expiry_ms + 1)
    )


def route_at_a_loss() -> None:
    hops = (Hop(KEYS[0].public, 5), Hop(KEYS[1].public, 6))
    t_packet.test_a_route_that_is_none_is_refused(Route(bytes(32), hops, 5), "at a loss")


MUTANTS: dict[Callable[[Patch], None], Callable[[], Any]] = {
    leaves_the_lock_out_of_the_tag: expiry_is_bound,
    leaves_the_expiry_out_of_the_tag: expiry_is_bound,
    tags_the_first_frame_only: t_packet.test_every_flipped_bit_is_refused_by_who_sees_it_first,
    checks_no_tag: t_packet.test_who_it_is_not_for_cannot_open_it,
    shows_every_hop_one_key: t_packet.test_no_two_hops_see_anything_that_is_the_same,
    fills_with_zeros: lambda: t_packet.test_the_payee_cannot_count_those_before_it(2),
    forgets_the_filler: lambda: t_packet.test_each_hop_learns_the_next_one_and_what_to_offer_it(3),
    one_stream_for_all: turned_round_is_refused,
    accepts_longer_packets: lambda: t_packet.test_another_size_is_refused_with_both_numbers(
        bytes(packet.PACKET_BYTES + 1)
    ),
    accepts_any_version: t_packet.test_another_version_is_refused,
    takes_any_key: lambda: t_packet.test_a_key_that_makes_every_secret_the_same_is_refused(bytes(32)),
    reads_what_is_not_used: t_packet.test_what_a_payload_does_not_use_is_zero,
    forwards_at_a_loss: route_at_a_loss,
    remembers_no_packet: t_replay.test_a_packet_is_opened_once_over_whatever_channel_it_comes,
    remembers_by_channel: t_replay.test_a_packet_is_opened_once_over_whatever_channel_it_comes,
    forgets_at_the_expiry: t_replay.test_it_is_remembered_until_its_lock_expires_and_not_longer,
    shares_the_room: t_replay.test_a_channel_that_uses_up_its_room_forgets_its_own_first_and_nobody_elses,
    blames_the_first: t_failure.test_whoever_alters_it_makes_it_unreadable,
    hides_nothing_on_the_way_back: t_failure.test_no_hop_sees_what_another_saw_or_what_was_said,
    sends_failures_as_long_as_they_are: t_failure.test_the_size_is_the_same_everywhere_whatever_was_said,
    passes_on_what_is_no_failure: t_failure.test_who_could_not_open_the_packet_is_named_by_its_predecessor,
}


@pytest.mark.parametrize("mutate", MUTANTS, ids=lambda mutate: mutate.__name__)
def test_a_mutant_dies(mutate: Callable[[Patch], None], monkeypatch: Patch) -> None:
    kill = MUTANTS[mutate]
    kill()
    with monkeypatch.context() as patch:
        mutate(patch)
        forget()
        with pytest.raises((AssertionError, pytest.fail.Exception, OnionError)):
            kill()
    forget()
