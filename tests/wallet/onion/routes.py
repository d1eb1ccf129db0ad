"""Nodes and routes for the tests of onions."""

from __future__ import annotations

import hashlib
from functools import cache

from layer1.crypto import SigningKey
from wallet.onion.packet import Binding, Origin, Peeled, build, peel
from wallet.onion.route import Hop, Route

CHAIN = hashlib.sha256(b"a ledger").digest()
EXPIRY_MS = 1_700_000_000_000
SECRET = bytes(range(16))
KEYS = [SigningKey(hashlib.sha256(f"node {number}".encode()).digest()) for number in range(20)]
BINDING = Binding(CHAIN, hashlib.sha256(bytes(32)).digest(), EXPIRY_MS)
SESSION = hashlib.sha256(b"a session").digest()


def route_of(count: int, *, received: int = 1_000, fee: int = 3) -> Route:
    """Over the first `count` nodes, each of which keeps the same fee."""
    hops = (Hop(KEYS[place].public, received + fee * (count - 1 - place)) for place in range(count))
    return Route(hashlib.sha256(b"a channel").digest(), tuple(hops), EXPIRY_MS)


@cache
def built(count: int, session: bytes = SESSION) -> tuple[bytes, Origin]:
    """The packet of an invoice over so many hops."""
    return build(route_of(count), BINDING, session, total=5_000, payment_secret=SECRET)


@cache
def peel_all(packet: bytes, count: int) -> tuple[Peeled, ...]:
    """What each hop of such a route finds."""
    found = []
    for place in range(count):
        found.append(peel(KEYS[place], packet, BINDING))
        packet = found[-1].packet
    return tuple(found)


def forget() -> None:
    """Build and peel anew: what is under test has changed."""
    built.cache_clear()
    peel_all.cache_clear()
