"""Whom a request is from, as far as that can be known without an account: its network address.

A client opens as many connections as it likes, and whoever holds an IPv6 address holds its whole /64, so both count as
one. What a header says about other addresses is anybody's word. Behind a proxy all clients are one: raise
``limits.per_source`` and ``limits.disputes_per_source`` of the replica there, and limit clients in the proxy.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

Address = IPv4Address | IPv6Address

SUBNET_BITS = 64
"""Of an IPv6 address: what one subscriber is given at least (RFC 6177)."""


def source_of(remote: str | None) -> str:
    """A name for the share of whoever is at the other end of a connection; empty if there is no telling.

    Args:
        remote: Numeric address of the peer, as the transport knows it.
    """
    address = parse(remote or "")
    return "" if address is None else name_of(address)


def parse(remote: str) -> Address | None:
    """A numeric address without its zone; an IPv4 address in IPv6 dress is one. None if it is no address."""
    try:
        address = ip_address(remote.partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address


def name_of(address: Address) -> str:
    """Whom an address counts for."""
    return str(address if isinstance(address, IPv4Address) else IPv6Network((address, SUBNET_BITS), strict=False))
