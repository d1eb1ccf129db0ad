"""Event streams as text: whatever the standard allows is read, and nothing without an end is kept."""

from __future__ import annotations

import pytest

from layer1.errors import RemoteError
from layer1.sse import EventParser, RawEvent

STREAM = (
    b": hello\nretry: 1\n\nid: 1-0\r\nevent: block\r\ndata:{}\r\n\r\ndata: a\ndata:  b\nnoise\n\n"
    b"id: 2-0\n\ndata: without an end"
)


@pytest.mark.parametrize("size", [1, 2, 7, len(STREAM)])
def test_a_stream_is_read_however_it_is_cut(size: int) -> None:
    parser = EventParser(1_000)
    found = [event for i in range(0, len(STREAM), size) for event in parser.feed(STREAM[i : i + size])]
    assert found == [RawEvent("1-0", "block", ["{}"]), RawEvent("", "message", ["a", " b"])]
    assert found[1].data == "a\n b"


@pytest.mark.parametrize(
    "line, size", [(b"x" * 11, 11), (b": 12345678\n\n", 10), (b"data: 12345\n", 11), (b"data: 1\n" * 2, 14)]
)
def test_neither_a_line_nor_an_event_goes_on_without_end(line: bytes, size: int) -> None:
    """A stranger's stream would fill the memory, with one line or with many short ones."""
    with pytest.raises(RemoteError, match=rf"{size} bytes; none is above {size - 1}"):
        EventParser(size - 1).feed(line)
    EventParser(size).feed(line)
