"""What kind of story a seed stands for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.network import CALM, PROFILES, Profile

if TYPE_CHECKING:
    from tests.simulation.stories.plot import Plot

Shape = tuple[int, bool]
"""Members, and whether there are as many witnesses less one."""
PAIRS: tuple[Shape, ...] = ((2, False), (2, True))
PLAIN: tuple[Shape, ...] = ((2, False), (3, False), (5, False), (8, False))
WITNESSED: tuple[Shape, ...] = ((2, True), (3, True))
ALL_SHAPES = PLAIN + WITNESSED
COMMON = {2: 5, 3: 4, 5: 2, 8: 1}
"""How often each size is drawn."""
FAULTS = ("burn", "kill", "pause", "break", "part", "cut off", "slow disk", "failing disk")


@dataclass(frozen=True)
class StoryOptions:
    """Of one run."""

    seed: int
    plot: str
    size: int = 2
    """Members."""
    witnessed: bool = False
    towers: int = 0
    """Honest watchtowers, which all honest members use."""
    rely: bool = False
    """Whether members call committed only what towers have receipted."""
    standby: int | None = None
    """The member that has two homes."""
    groups: int = 1
    liars: tuple[int, ...] = ()
    """Seats of dishonest members."""
    resizes: bool = False
    profile: Profile = CALM
    faults: tuple[str, ...] = ()
    duration_ms: int = 8_000
    """Of the first phase."""
    pause_ms: int = 300
    """Mean time between two acts of one owner."""
    step: int = 0
    """Which version, message or moment it is about."""

    @property
    def witnesses(self) -> int:
        """How many."""
        return self.size - 1 if self.witnessed else 0

    def __str__(self) -> str:
        shape = f"{self.size}+{self.witnesses}" if self.witnessed else f"{self.size}"
        extras = [f"{self.towers} towers{' relied on' if self.rely else ''}"] if self.towers else []
        extras += [f"standby of {self.standby}"] if self.standby is not None else []
        extras += [f"{self.groups} groups"] if self.groups > 1 else []
        extras += ["changes"] if self.resizes else []
        liars = f"dishonest: {', '.join(map(str, self.liars))}" if self.liars else "nobody dishonest"
        return (
            f"seed {self.seed}: {self.plot}, step {self.step}; {shape} members{''.join(f', {e}' for e in extras)}; "
            f"{liars}; {self.duration_ms} ms, {self.profile.name} links, faults: {', '.join(self.faults) or 'none'}"
        )


def drawn(seed: int, plots: dict[str, type[Plot]]) -> StoryOptions:
    """The story of a seed; plots take turns."""
    names = sorted(plots)
    name, step = names[seed % len(names)], seed // len(names)
    random = Random(f"{seed}/story options")
    plot = plots[name]
    size, witnessed = random.choices(plot.shapes, [COMMON[size] for size, _ in plot.shapes])[0]
    options = StoryOptions(
        seed=seed,
        plot=name,
        size=size,
        witnessed=witnessed,
        towers=random.choice((0, 0, 1, 1, 2)),
        rely=random.random() < 0.3,
        groups=random.choice((1, 1, 1, 2)),
        liars=_liars(random, size, witnessed=witnessed) if plot.liars else (),
        resizes=random.random() < 0.2,
        profile=random.choice((CALM, CALM, CALM, *PROFILES)),
        faults=tuple(random.sample(FAULTS, random.choice((0, 0, 1, 2, 3)))),
        duration_ms=random.randint(5_000, 10_000),
        pause_ms=random.choice((150, 300, 600)) * (2 if size > 3 else 1),
        step=step,
    )
    honest = [seat for seat in range(size) if seat not in options.liars]
    if plot.needs_standby or random.random() < 0.2:
        options = replace(options, standby=random.choice(honest))
    return replace(options, **plot.fixed)


def _liars(random: Random, size: int, *, witnessed: bool) -> tuple[int, ...]:
    """At least one member is honest; of 2f + 1 at most f lie."""
    most = size - 1
    count = 1 if witnessed else random.choice((1, 1, most))
    return tuple(sorted(random.sample(range(size), count)))


def pick(sequence: Sequence[int], step: int) -> int:
    """Element number `step`, over and over."""
    return sequence[step % len(sequence)]
