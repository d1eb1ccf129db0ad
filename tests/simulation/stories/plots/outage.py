"""An outage of layer 1 across a deadline: the clock stands still, and whoever has something to say is still in time."""

from __future__ import annotations

from layer1.ledger.records import Status
from tests.simulation.stories.options import PLAIN
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.plots.stale_wedge import StaleAt


class StaleEarly(StaleAt):
    """While the first phase still runs."""

    when = 0.4


class Outage(Plot):
    """As soon as the stale wedge is final, layer 1 is away for longer than the challenge period."""

    shapes = PLAIN

    def begin(self) -> None:
        self.corrupt(StaleEarly)
        self.is_over = False
        self._watch()

    def _watch(self) -> None:
        """Wait for the wedge."""
        if any(facts.ledger.status is Status.WEDGED for facts in self.story.facts.groups.values()):
            self.story.ledger.stand_still(self.story.period_ms + self.random.randint(1_000, 20_000))
            return
        if not self.story.is_healing:
            self.story.world.after(50_000, self._watch)

    def interlude(self) -> None:
        """Honest members are there all the time, and cannot be heard before it is over."""
        world, ledger = self.story.world, self.story.ledger
        until_us = ledger.out_until_us
        if until_us > world.now_us:
            before_ms = ledger.clock_ms
            world.run(until_us)
            assert ledger.clock_ms <= before_ms + 2 * self.story.genesis.parameters.max_step_ms, "Clock: it ran on"
            world.stats["outages across a deadline"] += 1
