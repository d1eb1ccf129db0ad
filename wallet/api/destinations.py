"""Where a wallet may be told to send its webhooks.

*Safety:* whoever can register a webhook (an admin) does not thereby reach into the network that this machine stands in.

Every address that a name resolves to is judged when it is connected to, so a name that means something else later
(DNS rebinding) gains nothing. Never: link-local addresses (which hold the secrets of cloud machines), multicast, and
what is reserved. Addresses of private networks and of this machine only if the webhook was registered as private, which
is also the only one that may do without TLS, and only there.
"""

from __future__ import annotations

import socket
from ipaddress import ip_network

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from layer1.errors import Refused, check
from layer1.httpd.sources import Address, parse

MAX_URL = 2_000
TRANSLATED = (
    ip_network("64:ff9b::/96"),
    ip_network("64:ff9b:1::/48"),
    ip_network("2002::/16"),
    ip_network("2001::/32"),
)
"""IPv6 networks whose addresses stand for others (NAT64, 6to4, Teredo)."""

NEVER = (
    ip_network("::/96"),
    ip_network("::ffff:0:0:0/96"),
    ip_network("fec0::/10"),
    ip_network("fd00:ec2::/64"),
    ip_network("192.0.0.0/24"),
)
"""What stands for IPv4 addresses (IPv4-compatible, SIIT), what is site-local (RFC 3879), and metadata of clouds."""


def check_url(text: str, *, private: bool) -> URL:
    """A URL that a webhook may have.

    Raises:
        Refused: ``bad_webhook``.
    """
    try:
        url = URL(text)
    except ValueError as error:
        raise Refused("bad_webhook", f"{text[:120]!r} is no URL: {error}") from None
    check(
        len(text) <= MAX_URL and text.isprintable(), "bad_webhook", f"a URL has at most {MAX_URL} printable characters"
    )
    schemes = ("https", "http") if private else ("https",)
    hint = (
        "" if private else "; one on this machine or in a private network may be http, if it is registered as private"
    )
    check(
        url.scheme in schemes and bool(url.host), "bad_webhook", f"a webhook is https://..., not {text[:120]!r}{hint}"
    )
    plain = url.user is None and url.password is None and not url.fragment
    check(plain, "bad_webhook", "no user, password or fragment in the URL: what is sent is signed with the secret")
    address = parse(url.host or "")
    if address is not None:
        check_address(address, private=private, encrypted=url.scheme == "https")
    return url


def check_address(address: Address, *, private: bool, encrypted: bool) -> None:
    """Whether it may be connected to.

    Raises:
        Refused: ``bad_webhook``.
    """
    if address.is_global and not address.is_multicast and not _is_never(address):
        check(encrypted, "bad_webhook", f"{address} is on the public Internet: use https")
        return
    near = address.is_loopback or (address.is_private and not (address.is_link_local or address.is_reserved))
    allowed = near and not address.is_unspecified and not address.is_multicast and not _is_never(address)
    check(allowed, "bad_webhook", f"{address} is no address that webhooks are sent to")
    check(private, "bad_webhook", f"{address} is of a private network or this machine: register the webhook as private")


class GuardedResolver(AbstractResolver):
    """Resolves names to addresses that may be connected to."""

    def __init__(self, *, private: bool, encrypted: bool, resolver: AbstractResolver | None = None) -> None:
        self._private = private
        self._encrypted = encrypted
        self._resolver = resolver or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """All addresses of a name; if one of them is not allowed, none.

        Raises:
            OSError: As the system says, or none may be connected to.
        """
        found = await self._resolver.resolve(host, port, family)
        for each in found:
            address = parse(each["host"])
            if address is None:
                raise OSError(f"{host} resolves to {each['host'][:80]!r}, which is no address")
            try:
                check_address(address, private=self._private, encrypted=self._encrypted)
            except Refused as refusal:
                raise OSError(f"{host} resolves to {address}: {refusal.message}") from None
        return found

    async def close(self) -> None:
        """Let go of what resolves."""
        await self._resolver.close()


def _is_never(address: Address) -> bool:
    return not address.is_loopback and any(address in network for network in (*TRANSLATED, *NEVER))
