"""What one replica's API takes on at once and answers at most. Everything beyond is refused with a clear word."""

from __future__ import annotations

from dataclasses import dataclass

from layer1.httpd.limits import HttpLimits


@dataclass(frozen=True, slots=True)
class ApiLimits(HttpLimits):
    """Limits of one replica's HTTP API. Times are milliseconds."""

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
    proof_cache: int = 32
    """Blocks whose output hashes are kept for further proofs."""

    def __post_init__(self) -> None:
        HttpLimits.__post_init__(self)  # a class with slots is made anew: `super` would name the first one
        for low, high in (("page", "max_page"), ("wait_ms", "max_wait_ms")):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"{low} is {getattr(self, low)}, above {high} = {getattr(self, high)}")
