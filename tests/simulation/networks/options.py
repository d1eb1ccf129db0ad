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
SHAPES: tuple[Channels, ...] = (((0, 1),), ((0, 1), (0, 1)), ((0, 1), (1, 2)))
"""One channel, two of one pair, two in a row."""


@dataclass(frozen=True)
class NetworkOptions(StoryOptions):
    """Of one run."""

    channels: Channels = SHAPES[0]
    """Between which wallets."""
    max_locks: int = 30
    """In one channel."""

    def __str__(self) -> str:
        links = ", ".join(f"{a}-{b}" for a, b in self.channels)
        return f"{super().__str__()}; channels {links}, {self.max_locks} locks in each"


def drawn(seed: int, plots: Mapping[str, type[Plot]]) -> NetworkOptions:
    """The network of a seed; plots take turns."""
    names = sorted(plots)
    name, step = names[seed % len(names)], seed // len(names)
    random = Random(f"{seed}/network options")
    plot = plots[name]
    channels = random.choice(SHAPES)
    size = 1 + max(max(pair) for pair in channels)
    options = NetworkOptions(
        seed=seed,
        plot=name,
        size=size,
        channels=channels,
        liars=tuple(sorted(random.sample(range(size), random.randint(1, size - 1)))) if plot.liars else (),
        profile=random.choice((CALM, CALM, CALM, *PROFILES)),
        faults=tuple(random.sample(FAULTS, random.choice((0, 0, 1, 2, 3)))),
        duration_ms=random.randint(40_000, 60_000),
        pause_ms=random.choice((600, 1_200, 2_400)),
        max_locks=random.choice((8, 30)),
        step=step,
    )
    return replace(options, **plot.fixed)
