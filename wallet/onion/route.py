"""A route: what path finding hands to whoever builds the onion and offers the first lock.

Every hop has the same expiry and the same hash (rule 22), so that a route says only who gets how much.

Source: docs/design/groups.md, rules 22 and 23; decisions 036 and 037.
"""

from __future__ import annotations

from itertools import pairwise

from layer1.codec import Struct
from layer1.crypto import PUBLIC_KEY_BYTES, Hash, PublicKey, format_address
from layer1.errors import Refused, check
from layer1.ledger.genesis import MAX_MONEY

MAX_HOPS = 20
"""Who may receive on a route, the payee included. A packet has room for so many, however many there are."""


class Hop(Struct):
    """Somebody who receives a lock."""

    node: PublicKey
    """Its identity: the spending address."""
    amount: int
    """Of the lock that reaches it. What it forwards is the next hop's, and the difference is its fee."""


class Route(Struct):
    """A path for one part of a payment.

    ``hops[0]`` is our neighbour, ``hops[-1]`` the payee. A payment over a channel with the payee has one hop.
    """

    group_id: Hash
    """Our own channel, on which the first lock is offered."""
    hops: tuple[Hop, ...]
    expiry_ms: int
    """Of every lock on the way, on the ledger clock (rule 22)."""

    @property
    def sent(self) -> int:
        """What we lock: the payee's part and all fees."""
        return self.hops[0].amount

    @property
    def received(self) -> int:
        """What the payee gets."""
        return self.hops[-1].amount

    @property
    def fee(self) -> int:
        """What the hops between keep."""
        return self.sent - self.received

    @property
    def payee(self) -> PublicKey:
        """Whom the money is for."""
        return self.hops[-1].node


def check_route(route: Route) -> None:
    """Return if a packet can be built for `route`.

    Raises:
        Refused: ``bad_route``; both numbers.
    """
    count = len(route.hops)
    check(1 <= count <= MAX_HOPS, "bad_route", f"a route has 1 to {MAX_HOPS} hops, this one {count}")
    for hop in route.hops:
        if len(hop.node) != PUBLIC_KEY_BYTES:
            raise Refused("bad_route", f"a hop's key has {PUBLIC_KEY_BYTES} bytes, this one {len(hop.node)}")
        if not 0 < hop.amount <= MAX_MONEY:
            raise Refused("bad_route", f"a lock is of 1 to {MAX_MONEY} units, this one of {hop.amount}")
    if len({hop.node for hop in route.hops}) != count:
        raise Refused("bad_route", f"a route visits nobody twice, this one has {count} hops and fewer names")
    for before, after in pairwise(route.hops):
        if before.amount < after.amount:
            raise Refused(
                "bad_route",
                f"{format_address(before.node)} would get {before.amount} units and forward "
                f"{after.amount}: nobody forwards at a loss",
            )
    check(route.expiry_ms > 0, "bad_route", f"a lock expires on the ledger clock, not at {route.expiry_ms}")
