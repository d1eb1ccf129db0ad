"""What goes wrong in the first phase of a story, besides what its plot does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from tests.simulation.kernel import MS
from tests.simulation.stories.process import StoryProcess

if TYPE_CHECKING:
    from tests.simulation.stories.story import Story

EFFECTS = 12
"""A burning process is killed within so many effects."""
KILLS = ("kill", "burn", "pause")
"""Faults that take a process away."""


class Faults:
    """The hand that breaks things."""

    def __init__(self, story: Story) -> None:
        self._story, self._world = story, story.world

    def start(self) -> None:
        """Let the faults of this story happen from now on."""
        for kind in self._story.options.faults:
            random = self._world.random(f"faults {kind}")
            self._repeat(random, partial(KINDS[kind], self, random), random.randint(300, 1_500))

    def _repeat(self, random: Random, fault: Callable[[], None], mean_ms: int) -> None:
        def strike() -> None:
            if not self._story.is_healing:
                fault()
                self._repeat(random, fault, mean_ms)

        self._world.after(round(random.expovariate(1 / mean_ms) * MS), strike)

    def _anybody(self, random: Random) -> StoryProcess:
        return random.choice(self._story.processes)

    def kill(self, random: Random) -> None:
        """At any time."""
        self._anybody(random).kill()

    def burn(self, random: Random) -> None:
        """Between two effects: before or after a record is persisted, a sync, a message."""
        process = self._anybody(random)
        if process.alive:
            process.fuse = random.randint(1, EFFECTS)
            if random.random() < 0.2:
                process.at_sync = process.kill

    def pause(self, random: Random) -> None:
        """For a while."""
        self._anybody(random).pause(random.randint(50, 2_000) * MS)

    def break_link(self, random: Random) -> None:
        """One of them."""
        ends = self._anybody(random).ends
        if ends:
            random.choice(ends).break_off()

    def part(self, random: Random) -> None:
        """Two do not reach each other for a while."""
        first, second = random.sample(self._story.processes, 2)
        exchange, pair = self._story.exchange, frozenset((first.name, second.name))
        exchange.part(first.name, second.name)
        self._world.after(random.randint(100, 3_000) * MS, lambda: exchange.parted.discard(pair))

    def cut_off(self, random: Random) -> None:
        """From the ledger."""
        self._anybody(random).cut_off(random.randint(100, 4_000))

    def slow_disk(self, random: Random) -> None:
        """Until it is healed."""
        self._anybody(random).slow_disk = 0.3

    def failing_disk(self, random: Random) -> None:
        """A sync is not confirmed."""
        self._anybody(random).home.fails = True

    def heal(self) -> None:
        """No faults any more."""
        for process in self._story.processes:
            process.fuse, process.at_sync, process.slow_disk = None, None, 0.0
            process.cut_until_us, process.home.fails = 0, False
            process.resume()


KINDS: dict[str, Callable[[Faults, Random], None]] = {
    "burn": Faults.burn,
    "kill": Faults.kill,
    "pause": Faults.pause,
    "break": Faults.break_link,
    "part": Faults.part,
    "cut off": Faults.cut_off,
    "slow disk": Faults.slow_disk,
    "failing disk": Faults.failing_disk,
}
