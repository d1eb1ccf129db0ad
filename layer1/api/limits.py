"""What one API takes on at once, and what it answers at most. Everything beyond is refused with a clear word."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Limits of one replica's HTTP API. Times are milliseconds."""

    body_bytes: int = 8 * 2**20
    """A request's body: 1,000 transactions of four kilobytes in hex."""
    small_body_bytes: int = 256 * 1024
    """A body up to this always finds room: 1,024 connections of them are 256 MiB."""
    large_bodies: int = 32
    """Larger bodies in hand at once, another 256 MiB. One that has been arriving for long gives way to another."""
    body_ms: int = 10_000
    """For a body to arrive, so that slow senders hold nothing."""
    transactions: int = 2_000
    """Transactions in one POST."""
    page: int = 50
    """Items in a page, unless asked otherwise."""
    max_page: int = 500
    """Most items in a page."""
    max_keys: int = 100
    """Groups and accounts in the filter of one event stream; more do not fit a URL."""
    wait_ms: int = 30_000
    """``?wait=final`` waits this long, unless asked otherwise."""
    max_wait_ms: int = 60_000
    max_waiting: int = 1_024
    """Requests that wait for finality at once."""
    proofs: int = 100
    """Output proofs in the answer to one POST; fetch the block's proof for more."""
    catch_up_ms: int = 5_000
    """How long a query waits for the store to hold what was final when it came."""
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
    proof_cache: int = 32
    """Blocks whose output hashes are kept for further proofs."""

    def __post_init__(self) -> None:
        for name in self.__dataclass_fields__:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, below 1; to close the API, don't serve it")
        for low, high in (("page", "max_page"), ("wait_ms", "max_wait_ms")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} is {getattr(self, low)}, above {high} = {getattr(self, high)}")
