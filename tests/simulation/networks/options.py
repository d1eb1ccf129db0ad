"""What kind of network a seed stands for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.network import CALM, PROFILES
from tests.simulation.stories.options import FAULTS, StoryOptions

if TYPE_CHECKING:
    from tests.simulation.stories.plot import Plot

Channels = tuple[tuple[int, int], ...]
PAIRS: tuple[Channels, ...] = (((0, 1),), ((0, 1), (0, 1)))
"""One channel; two of one pair."""
ROWS: tuple[Channels, ...] = (((0, 1), (1, 2)), ((1, 0), (1, 2)), ((0, 1), (1, 2), (2, 3)), ((0, 1), (0, 1), (1, 2)))
"""One hub, who opened either end; two hubs; a hub with two channels with one neighbour."""
MOST_WALLETS, MOST_CHANNELS = 5, 6


@dataclass(frozen=True)
class NetworkOptions(StoryOptions):
    """Of one run."""

    channels: Channels = PAIRS[0]
    """Between which wallets; the first one opened it."""
    max_locks: int = 30
    """In one channel."""

    @property
    def hubs(self) -> list[int]:
        """Wallets between others."""
        seats = range(self.size)
        return [seat for seat in seats if len({frozenset(pair) for pair in self.channels if seat in pair}) > 1]

    def __str__(self) -> str:
        links = ", ".join(f"{a}-{b}" for a, b in self.channels)
        return f"{super().__str__()}; channels {links}, {self.max_locks} locks in each"


def drawn(seed: int, plots: Mapping[str, type[Plot]]) -> NetworkOptions:
    """The network of a seed; plots take turns."""
    names = sorted(plots)
    name, step = names[seed % len(names)], seed // len(names)
    random = Random(f"{seed}/network options")
    plot = plots[name]
    channels = _channels(random, with_hubs=getattr(plot, "needs_hub", False))
    size = 1 + max(max(pair) for pair in channels)
    options = NetworkOptions(
        seed=seed,
        plot=name,
        size=size,
        channels=channels,
        liars=tuple(sorted(random.sample(range(size), _count(random, size)))) if plot.liars else (),
        profile=random.choice((CALM, CALM, CALM, *PROFILES)),
        faults=tuple(random.sample(FAULTS, random.choice((0, 0, 1, 2, 3)))),
        duration_ms=random.randint(40_000, 60_000),
        pause_ms=random.choice((600, 1_200, 2_400)),
        max_locks=random.choice((8, 30)),
        step=step,
    )
    return replace(options, **plot.fixed)


def _channels(random: Random, *, with_hubs: bool) -> Channels:
    draw = random.random()
    if draw < 0.3 and not with_hubs:
        return random.choice(PAIRS)
    if draw < 0.85:
        return random.choice(ROWS)
    size = random.randint(4, MOST_WALLETS)
    tree = [(random.randrange(seat), seat) for seat in range(1, size)]
    more = [tuple(random.sample(range(size), 2)) for _ in range(random.randint(0, MOST_CHANNELS - len(tree)))]
    return (*tree, *((a, b) for a, b in more))


def _count(random: Random, size: int) -> int:
    """Of liars: mostly one, so that there is somebody to lie to."""
    return 1 if random.random() < 0.6 else random.randint(1, size - 1)
