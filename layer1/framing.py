"""Messages of any length in frames of bounded length, many small ones to a frame.

What: :class:`Outbox` holds what waits to be sent and cuts it into frames; :class:`Inbox` puts it together again.
A frame is a row of pieces; before each stand its length times two, plus one if more of the same message follows.

*Safety:* messages come out whole, in order and unchanged, and a frame, however it was made, costs the reader no more
memory than its own length and one message within the limit.

A piece is copied only behind pieces of the same message, whose sum is checked before; a piece without bytes may end a
message and may not continue one, so every byte that arrives either fills a message or ends one.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator

from layer1.handshake import Refusal

FRAME_BYTES = 2**16
"""Four TLS records: enough to make a write worth its cost, and too few to keep a ping waiting."""

MESSAGE_OVERHEAD_BYTES = 64
"""What a waiting message costs beside its bytes, so that no number of empty ones is free."""

_LENGTH = struct.Struct("<I")


class Outbox:
    """A queue of messages, bounded by its owner."""

    def __init__(self) -> None:
        self._messages: deque[bytes] = deque()
        self._taken_bytes = 0
        """Of the first message."""
        self.size_bytes = 0
        """Of all messages that have not left completely, with their overhead."""

    def __bool__(self) -> bool:
        return bool(self._messages)

    def put(self, message: bytes) -> None:
        """Add a message at the end."""
        self._messages.append(message)
        self.size_bytes += len(message) + MESSAGE_OVERHEAD_BYTES

    def take_frame(self) -> bytes:
        """Take as much as fits one frame; call it only when there is something."""
        parts, room = [], FRAME_BYTES
        while self._messages and room > _LENGTH.size:
            message, start = self._messages[0], self._taken_bytes
            piece = message[start : start + room - _LENGTH.size]
            has_more = start + len(piece) < len(message)
            parts += [_LENGTH.pack(len(piece) << 1 | has_more), piece]
            room -= _LENGTH.size + len(piece)
            if has_more:
                self._taken_bytes += len(piece)
            else:
                self._messages.popleft()
                self.size_bytes -= len(message) + MESSAGE_OVERHEAD_BYTES
                self._taken_bytes = 0
        return b"".join(parts)


class Inbox:
    """Messages that came, and the one that is coming."""

    def __init__(self, max_message_bytes: int) -> None:
        self.max_message_bytes = max_message_bytes
        self._partial = bytearray()
        self.messages: deque[bytes] = deque()
        """Whole messages, oldest first; the owner takes them out."""

    @property
    def size_bytes(self) -> int:
        """Of the message that is coming, so far."""
        return len(self._partial)

    def put_frame(self, frame: bytes) -> None:
        """Take a frame apart.

        Raises:
            Refusal: ``garbage`` or ``oversize``. What came before the fault is in :attr:`messages`.
        """
        for piece, has_more in _pieces(frame):
            if len(self._partial) + len(piece) > self.max_message_bytes:
                raise Refusal("oversize")
            if has_more or self._partial:
                self._partial += piece
            if not has_more:
                self.messages.append(bytes(self._partial) if self._partial else piece)
                self._partial.clear()


def _pieces(frame: bytes) -> Iterator[tuple[bytes, bool]]:
    offset = 0
    while offset < len(frame):
        start = offset + _LENGTH.size
        if start > len(frame):
            raise Refusal("garbage")
        word: int = _LENGTH.unpack_from(frame, offset)[0]
        offset = start + (word >> 1)
        if offset > len(frame) or word == 1:
            raise Refusal("garbage")
        yield frame[start:offset], bool(word & 1)
