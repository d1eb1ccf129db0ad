"""What is asked of a search, and what it answers.

Source: docs/design/groups.md, rules 21 to 23; decisions 039 and 042.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from layer1.crypto import Hash, PublicKey
from layer1.ledger.genesis import MAX_MONEY
from wallet.invoices.invoice import Hint
from wallet.onion.route import MAX_HOPS, Hop, Route

AVERSION_UNITS = 10
AVERSION_PPM = 5_000
"""By default a chance e times as good is worth ten minor units and half a percent of the amount."""

Direction = tuple[Hash, PublicKey]
"""A channel, and who sends in it."""


@dataclass(frozen=True, slots=True)
class Query:
    """What is to be paid, and on which conditions."""

    source: PublicKey
    target: PublicKey
    amount: int
    """Minor units that arrive."""
    own: Mapping[Hash, int]
    """What the source can send now over each of its channels that is open and connected; it uses no others."""
    max_fee: int = MAX_MONEY
    """Minor units."""
    max_hops: int = MAX_HOPS
    life_ms: int = 24 * 3_600_000
    """Until the lock expires: a hop that asks for a longer margin is not used."""
    now_ms: int = 0
    """This machine's clock, as in `Bounds.at_ms`."""
    aversion: float | None = None
    """Minor units for a chance e times as good; None for the default."""
    avoid: frozenset[Direction] = frozenset()
    """Not to be used, such as what has just refused."""
    in_flight: Mapping[Direction, int] = field(default_factory=dict)
    """Minor units that other parts of the same payment take there."""
    first: Hash | None = None
    """The channel of the source to leave by. From the source to itself, one of both is needed."""
    last: Hash | None = None
    """The channel of the target to arrive by."""
    hints: tuple[Hint, ...] = ()
    """Last hops to the target, by its own word; what a channel's member announces of it counts more."""

    @property
    def price(self) -> float:
        """Of a chance e times as good."""
        return AVERSION_UNITS + self.amount * AVERSION_PPM / 1e6 if self.aversion is None else self.aversion


@dataclass(frozen=True, slots=True)
class Leg:
    """One lock of a path."""

    channel: Hash
    sender: PublicKey
    receiver: PublicKey
    amount: int
    """Minor units that it locks."""
    fee: int
    """What its sender keeps for it; 0 at the payer."""
    chance: float
    """That it works."""

    @property
    def direction(self) -> Direction:
        """The channel, and who sends."""
        return self.channel, self.sender


@dataclass(frozen=True, slots=True)
class Path:
    """From the payer to the payee."""

    legs: tuple[Leg, ...]
    """The first over a channel of the payer."""
    amount: int
    """What arrives."""
    cost: float
    """Fees and the price of the risk, minor units."""

    @property
    def fee(self) -> int:
        """What all hops keep."""
        return self.legs[0].amount - self.amount

    @property
    def chance(self) -> float:
        """That all legs work."""
        return math.prod(leg.chance for leg in self.legs)

    def route(self, expiry_ms: int) -> Route:
        """What the onion is built for, and the first lock offered on."""
        hops = tuple(Hop(leg.receiver, leg.amount) for leg in self.legs)
        return Route(self.legs[0].channel, hops, expiry_ms)
