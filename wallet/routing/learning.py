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
from wallet.routing.paths import Direction, Leg, Path

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
    """What became of one path."""

    path: Path
    failed: int | None = None
    """Number of the leg whose sender did not forward, from 0; as many as there are if the payee refused; None if it
    was paid."""
    why: Failure = Failure.OTHER
    """What it said; nothing if it was paid."""
    only: bool = False
    """Whether nothing is known of the legs before."""


class Learnt:
    """What this wallet remembers of its own payments."""

    def __init__(self) -> None:
        self._bounds: dict[Hash, Bounds] = {}
        self._resting: dict[Direction, tuple[int, int]] = {}
        """Until when, and how often in a row."""

    def lacked(self, channel: Channel, leg: Leg, now_ms: int) -> None:
        """The sender of `leg`, over `channel`, had not so much to send."""
        self._teach(channel, leg.sender, now_ms, lambda bounds: bounds.cannot_send(leg.amount))

    def rest(self, way: Direction, now_ms: int) -> None:
        """Leave a direction alone for a while: something is wrong there that less money would not mend."""
        _, before = self._resting.get(way, (0, 0))
        rest_ms = min(REST_MS << min(before, 16), MOST_REST_MS)
        self._resting[way] = now_ms + rest_ms, before + 1

    def wake(self, way: Direction) -> None:
        """Its sender has announced other terms since."""
        self._resting.pop(way, None)

    def passed(self, channel: Channel, leg: Leg, now_ms: int) -> None:
        """The lock of `leg` stood, and was taken back since a later one failed."""
        self._resting.pop((leg.channel, leg.sender), None)
        self._teach(channel, leg.sender, now_ms, lambda bounds: bounds.can_send(leg.amount))

    def paid(self, channel: Channel, leg: Leg, now_ms: int) -> None:
        """`leg` was claimed."""
        self._resting.pop((leg.channel, leg.sender), None)
        self._teach(channel, leg.sender, now_ms, lambda bounds: bounds.sent(leg.amount))

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
    """Learn from one try. Of channels that layer 1 does not show, nothing but that they are to be left alone."""
    legs, failed = tried.path.legs, tried.failed
    if failed is not None and failed < len(legs):
        leg = legs[failed]
        channel = channels.get(leg.channel)
        if channel is None or tried.why is Failure.OTHER:
            learnt.rest(leg.direction, now_ms)
        else:
            learnt.lacked(channel, leg, now_ms)
    for leg in () if tried.only else legs[:failed]:
        if (channel := channels.get(leg.channel)) is None:
            continue
        if failed is None:
            learnt.paid(channel, leg, now_ms)
        else:
            learnt.passed(channel, leg, now_ms)
