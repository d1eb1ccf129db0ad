"""How many requests one address may make: a token bucket each.

What: plain numbers; the time comes as an argument.

*Safety:* nobody is refused for what another address does, and what is kept of addresses is bounded.

An address is a client's, or for IPv6 its network of 64 bits, since whoever has one has all of it. A request that is
refused costs nothing, so that a client which slows down is served at once again. Networks that are exempt share the
machine with the replica, or stand before it as a proxy and must limit their own clients.

*Source:* token buckets; RFC 6585, section 4 (429); RFC 9110, section 10.2.3 (Retry-After).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from math import ceil

from layer1.errors import Refused
from layer1.httpd.sources import name_of, parse

Network = IPv4Network | IPv6Network

ROUNDING = 1e-6
"""Of a request: whoever waits as long as told is not refused for what floating point loses."""
LOOPBACK: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class RateLimit:
    """What one address may ask."""

    requests_per_s: int = 200
    """In the long run; a few per cent of one core. A wallet that serves makes about one."""
    burst: int = 1_000
    """At once, after a silence."""
    addresses: int = 10_000
    """Remembered at a time, those that asked last; about a megabyte."""
    exempt: tuple[Network, ...] = LOOPBACK
    """Networks without a limit."""

    def __post_init__(self) -> None:
        for name in ("requests_per_s", "burst", "addresses"):
            if getattr(self, name) < 1:
                raise ValueError(f"rate.{name} is {getattr(self, name)}, below 1; for no limit exempt all: 0.0.0.0/0")


class TooMany(Refused):
    """This address has to wait.

    Attributes:
        retry_s: Whole seconds, after which there is room for a request again.
    """

    def __init__(self, message: str, retry_s: int) -> None:
        super().__init__("rate_limited", message)
        self.retry_s = retry_s


@dataclass(slots=True)
class _Bucket:
    level: float
    at_s: float


class Rates:
    """What every address did lately."""

    def __init__(self, limit: RateLimit) -> None:
        self._limit = limit
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        """Who asked last comes last."""
        self._named = lru_cache(limit.addresses)(self._name)

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, address: str, now_s: float) -> None:
        """Count a request.

        Args:
            address: As the socket has it.
            now_s: Monotonic seconds.

        Raises:
            TooMany: There is no room for it.
        """
        name = self._named(address)
        if name is not None:
            self.count(name, now_s)

    def count(self, name: str, now_s: float) -> None:
        """Count a request of somebody who is known by another name than an address.

        Raises:
            TooMany: There is no room for it.
        """
        limit, bucket = self._limit, self._bucket(name, now_s)
        bucket.level = max(0.0, bucket.level - (now_s - bucket.at_s) * limit.requests_per_s)
        bucket.at_s = now_s
        if bucket.level + 1 > limit.burst + ROUNDING:
            retry_s = max(1, ceil((bucket.level + 1 - limit.burst) / limit.requests_per_s))
            raise TooMany(
                f"{ceil(bucket.level)} requests of {name} count at the moment, at most {limit.burst} may, and "
                f"{limit.requests_per_s} are forgotten every second: wait {retry_s} s",
                retry_s,
            )
        bucket.level += 1

    def _bucket(self, name: str, now_s: float) -> _Bucket:
        bucket = self._buckets.get(name)
        if bucket is None:
            bucket = self._buckets[name] = _Bucket(0.0, now_s)
            if len(self._buckets) > self._limit.addresses:
                self._buckets.popitem(last=False)
        self._buckets.move_to_end(name)
        return bucket

    def _name(self, address: str) -> str | None:
        """Whom to count for it; None for nobody."""
        parsed = parse(address)
        if parsed is None or any(parsed in network for network in self._limit.exempt):
            return None
        return name_of(parsed)
