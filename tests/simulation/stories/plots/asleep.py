"""A stale wedge at every earlier version, while every honest party sleeps but the watchtower.

They wake when the dispute is over, and reveal the body that the tower cannot (rule 12). What counts as committed is
what the tower receipted before they slept [F6].
"""

from __future__ import annotations

from tests.simulation.stories.options import PLAIN
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.plots.stale_wedge import StaleAt
from tests.simulation.stories.tower import TowerProcess


class StaleWhenAsleep(StaleAt):
    """It waits until all others sleep."""

    when = 1.01


class Asleep(Plot):
    """All honest members are away from the end of the first phase until the dispute is over."""

    shapes = PLAIN
    fixed = {"towers": 1, "standby": None}

    def begin(self) -> None:
        self.corrupt(StaleWhenAsleep)

    def interlude(self) -> None:
        story = self.story
        for seat in story.honest_seats:
            story.members[seat].sleep()
        for group_id, facts in story.facts.groups.items():
            epoch = facts.ledger.epoch
            receipted = max((tower.receipted(group_id, epoch) for tower in self.watching), default=0)
            for member in facts.honest.values():
                member.receipted = epoch << 40 | receipted
        story.calm()
        story.wait_until_settled(story.limit_ms)
        story.world.stats["slept through"] += 1

    @property
    def watching(self) -> list[TowerProcess]:
        """Towers that keep their word."""
        return self.story.towers

    def check(self) -> None:
        """Nobody can show that an honest tower broke its word."""
        for tower in self.watching:
            for facts in self.story.facts.groups.values():
                broken = tower.broken(facts.ledger)
                assert not broken, f"Promises: {tower.name} is honest, and its receipt {broken[0].version} is broken"
