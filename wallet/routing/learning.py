"""What payments teach about the network: bounds on balances, and hops to leave alone for a while.

Source: `wallet.routing.liquidity` has the model; groups.md, rules 20 to 23.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from layer1.crypto import Hash, PublicKey
from wallet.routing.graph import Channel
from wallet.routing.liquidity import HALF_LIFE_MS, Bounds
from wallet.routing.search import Direction, Hop, Route

REST_MS = 300_000
"""A hop that failed for anything but money is left alone for five minutes, twice as long for each time in a row."""
MOST_REST_MS = 24 * 3_600_000
FORGOTTEN_MS = 20 * HALF_LIFE_MS
"""After so long a bound has drifted back by all but a millionth of the capacity."""


Lesson = Callable[[Bounds], Bounds]


class Failure(StrEnum):
    """Why a hop did not forward."""

    LIQUIDITY = "liquidity"
    """Its sender has not got the money in this channel."""
    OTHER = "other"
    """Away, full, changed its terms, or anything else that a smaller amount would not mend."""


@dataclass(frozen=True, slots=True)
class Try:
    """What became of one route."""

    route: Route
    failed: int | None = None
    """Number of the hop that did not forward, from 0; None if it was paid."""
    why: Failure = Failure.OTHER
    """What that hop said; nothing if it was paid."""


class Learnt:
    """What this wallet remembers of its own payments."""

    def __init__(self) -> None:
        self._bounds: dict[Hash, Bounds] = {}
        self._resting: dict[Direction, tuple[int, int]] = {}
        """Until when, and how often in a row."""

    def failed(self, channel: Channel, hop: Hop, why: Failure, now_ms: int) -> None:
        """`hop` of a route, over `channel`, did not forward."""
        if why is Failure.LIQUIDITY:
            self._teach(channel, hop.sender, now_ms, lambda bounds: bounds.cannot_send(hop.amount))
            return
        _, before = self._resting.get((hop.channel, hop.sender), (0, 0))
        rest_ms = min(REST_MS << min(before, 16), MOST_REST_MS)
        self._resting[hop.channel, hop.sender] = now_ms + rest_ms, before + 1

    def passed(self, channel: Channel, hop: Hop, now_ms: int) -> None:
        """A lock stood at `hop`, and was taken back since a later one failed."""
        self._resting.pop((hop.channel, hop.sender), None)
        self._teach(channel, hop.sender, now_ms, lambda bounds: bounds.can_send(hop.amount))

    def paid(self, channel: Channel, hop: Hop, now_ms: int) -> None:
        """`hop` was claimed."""
        self._resting.pop((hop.channel, hop.sender), None)
        self._teach(channel, hop.sender, now_ms, lambda bounds: bounds.sent(hop.amount))

    def _teach(self, channel: Channel, sender: PublicKey, now_ms: int, lesson: Lesson) -> None:
        known = self._bounds.get(channel.id)
        if known is None or known.capacity != channel.capacity:
            known = Bounds.unknown(channel.capacity)
        known = known.at(now_ms)
        second = sender == channel.nodes[1]
        taught = lesson(known.flipped() if second else known)
        self._bounds[channel.id] = taught.flipped() if second else taught

    def bounds(self) -> Iterator[tuple[Hash, Bounds]]:
        """What is known, by channel."""
        yield from self._bounds.items()

    def of(self, channel_id: Hash) -> Bounds | None:
        """What is known of one channel."""
        return self._bounds.get(channel_id)

    def resting(self, now_ms: int) -> frozenset[Direction]:
        """Directions to leave alone now: for `Query.avoid`."""
        return frozenset(way for way, (until_ms, _) in self._resting.items() if now_ms < until_ms)

    def forget(self, now_ms: int) -> None:
        """Drop what means nothing any more, so that memory is bounded by what was paid lately."""
        self._bounds = {name: known for name, known in self._bounds.items() if now_ms - known.at_ms < FORGOTTEN_MS}
        self._resting = {way: rest for way, rest in self._resting.items() if now_ms < rest[0] + MOST_REST_MS}


def learn(learnt: Learnt, channels: Mapping[Hash, Channel], tried: Try, now_ms: int) -> None:
    """Learn from one try; channels that are gone teach nothing."""
    failed = tried.failed
    for number, hop in enumerate(tried.route.hops[: None if failed is None else failed + 1]):
        if (channel := channels.get(hop.channel)) is None:
            continue
        if failed is None:
            learnt.paid(channel, hop, now_ms)
        elif number < failed:
            learnt.passed(channel, hop, now_ms)
        else:
            learnt.failed(channel, hop, tried.why, now_ms)
