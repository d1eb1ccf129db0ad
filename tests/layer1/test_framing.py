"""Frames: whole messages, in order, and nothing that a hostile frame can blow up."""

from __future__ import annotations

import struct
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layer1.framing import FRAME_BYTES, MESSAGE_OVERHEAD_BYTES, Inbox, Outbox
from layer1.handshake import Refusal

LIMIT = 300_000


def word(length: int, has_more: bool = False) -> bytes:
    return struct.pack("<I", length << 1 | has_more)


def frames_of(messages: list[bytes]) -> list[bytes]:
    outbox = Outbox()
    for message in messages:
        outbox.put(message)
    frames = []
    while outbox:
        frames.append(outbox.take_frame())
    assert outbox.size_bytes == 0
    return frames


lengths = st.integers(0, 40) | st.integers(FRAME_BYTES - 12, FRAME_BYTES + 12) | st.integers(0, LIMIT)


@given(st.lists(lengths, max_size=8))
def test_messages_come_out_as_they_went_in(sizes: list[int]) -> None:
    messages = [bytes([number]) * size for number, size in enumerate(sizes)]
    inbox = Inbox(LIMIT)
    frames = frames_of(messages)
    for frame in frames:
        assert len(frame) <= FRAME_BYTES
        inbox.put_frame(frame)
    assert list(inbox.messages) == messages
    assert len(frames) <= 1 + sum(size + 8 for size in sizes) // (FRAME_BYTES - 8), "frames are filled"


def test_every_waiting_message_has_a_cost() -> None:
    outbox = Outbox()
    outbox.put(b"")
    assert outbox.size_bytes == MESSAGE_OVERHEAD_BYTES


@pytest.mark.parametrize(
    "frame",
    [b"\0", b"\0\0\0", word(1), word(5) + b"four", word(0, has_more=True), word(2**31 - 1), word(0) + b"\0"],
)
def test_a_broken_frame_is_garbage(frame: bytes) -> None:
    with pytest.raises(Refusal, match=r"^garbage$"):
        Inbox(LIMIT).put_frame(frame)


def test_what_came_before_a_fault_is_kept() -> None:
    inbox = Inbox(LIMIT)
    with pytest.raises(Refusal):
        inbox.put_frame(word(2) + b"ok" + b"\0")
    assert list(inbox.messages) == [b"ok"]


def test_the_limit_holds_for_one_piece_and_for_many() -> None:
    Inbox(10).put_frame(word(10) + bytes(10))
    with pytest.raises(Refusal, match=r"^oversize$"):
        Inbox(10).put_frame(word(11) + bytes(11))
    inbox = Inbox(10)
    inbox.put_frame(word(6, has_more=True) + bytes(6))
    with pytest.raises(Refusal, match=r"^oversize$"):
        inbox.put_frame(word(5) + bytes(5))


@given(st.binary(max_size=200), st.integers(0, 20))
def test_a_hostile_frame_gives_messages_or_a_refusal(frame: bytes, limit: int) -> None:
    inbox = Inbox(limit)
    with suppress(Refusal):
        inbox.put_frame(frame)
    assert all(len(message) <= limit for message in inbox.messages)
