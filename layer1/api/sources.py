"""Whom a request is from, as far as that can be known without an account: its network address.

A client opens as many connections as it likes, and whoever holds an IPv6 address holds its whole /64, so both count as
one. What a header says about other addresses is anybody's word. Behind a proxy all clients are one: raise
``limits.per_source`` and ``limits.disputes_per_source`` of the replica there, and limit clients in the proxy.
"""

from __future__ import annotations

from ipaddress import AddressValueError, IPv4Address, IPv6Address, IPv6Network

SUBNET_BITS = 64
"""Of an IPv6 address: what one subscriber is given at least (RFC 6177)."""


def source_of(remote: str | None) -> str:
    """A name for the share of whoever is at the other end of a connection; empty if there is no telling.

    Args:
        remote: Numeric address of the peer, as the transport knows it.
    """
    try:
        return str(IPv4Address(remote or ""))
    except AddressValueError:
        pass
    try:
        address = IPv6Address((remote or "").partition("%")[0])
    except AddressValueError:
        return ""
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((address, SUBNET_BITS), strict=False))
