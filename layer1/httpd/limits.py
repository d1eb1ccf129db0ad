"""What one HTTP server takes on at once. Everything beyond is refused with a clear word."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Limits of any server of ours. Times are milliseconds."""

    body_bytes: int = 8 * 2**20
    """A request's body: 1,000 transactions of four kilobytes in hex."""
    small_body_bytes: int = 256 * 1024
    """A body up to this always finds room: 1,024 connections of them are 256 MiB."""
    large_bodies: int = 32
    """Larger bodies in hand at once, another 256 MiB. One that has been arriving for long gives way to another."""
    body_ms: int = 10_000
    """For a body to arrive, so that slow senders hold nothing."""
    connections: int = 1_024
    """Open connections. For the next one, that whose client has been waited for longest gives way."""
    requests: int = 512
    """Queries in work at once; what waits for its client, for finality or streams has limits of its own."""
    streams: int = 256
    """Event streams at once. For the next one the oldest ends, whose reader resumes where it was."""
    keep_alive_ms: int = 30_000
    """An idle connection is closed after this; an idle event stream gets a comment twice as often."""
    write_ms: int = 30_000
    """Whoever takes nothing of an answer, or of a stream of events, for this long is cut off."""
    unsent_bytes: int = 128 * 2**20
    """Of all answers that wait to be taken; beyond it, those with most of it are cut off."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, below 1; to close the API, don't serve it")
