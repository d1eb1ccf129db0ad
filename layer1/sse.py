"""Server-sent events, read: bytes in, events out.

What: a parser without I/O. What it does not know (comments, other fields) it passes over, as the standard says.

*Source:* HTML Living Standard, section 9.2.6 (interpreting an event stream).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from layer1.errors import RemoteError


@dataclass(slots=True)
class RawEvent:
    """An event as it came over the wire."""

    name: str = ""
    """Its id."""
    kind: str = "message"
    lines: list[str] = field(default_factory=list)

    @property
    def data(self) -> str:
        """Its data, all lines of it."""
        return "\n".join(self.lines)


class EventParser:
    """Of one stream."""

    def __init__(self, max_line_bytes: int) -> None:
        """Start before the first event; no line may be longer than this, and no event's data in all."""
        self._max_bytes = max_line_bytes
        self._rest = b""
        self._event = RawEvent()
        self._size = 0

    def feed(self, data: bytes) -> list[RawEvent]:
        """The events that end within these bytes.

        Raises:
            RemoteError: A line, or the data of an event, does not end.
        """
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        longest = max(map(len, [self._rest, *lines]))
        if longest > self._max_bytes:
            raise RemoteError(f"a line of {longest} bytes; none is above {self._max_bytes}")
        return [event for line in lines if (event := self._line(line.removesuffix(b"\r"))) is not None]

    def _line(self, line: bytes) -> RawEvent | None:
        if not line:
            ended, self._event, self._size = self._event, RawEvent(), 0
            return ended if ended.lines else None
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "data":
                self._size += len(line)
                if self._size > self._max_bytes:
                    raise RemoteError(f"an event of {self._size} bytes; none is above {self._max_bytes}")
                self._event.lines.append(value)
            case "event":
                self._event.kind = value
            case "id":
                self._event.name = value
            case _:
                pass
        return None
