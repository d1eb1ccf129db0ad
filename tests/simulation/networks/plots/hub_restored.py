"""A hub whose database is restored from yesterday, in the middle of payments.

It knows that it is a copy (decision 040), and what it has signed since its neighbours show it; which lock became
which, and the preimages that it was shown, they do not. Nobody lies, and nobody but the hub may lose by it.
"""

from __future__ import annotations

from functools import partial

from tests.simulation.stories.plot import Plot


class HubRestored(Plot):
    """An old copy, once."""

    liars = False
    needs_hub = True

    def begin(self) -> None:
        self._seat = seat = self.random.choice(self.options.hubs)  # type: ignore[attr-defined]  # of a network
        kept = self.random.choice((0.5, 0.9, 0.98, self.random.random()))
        self.at(self.random.uniform(0.3, 0.9), partial(self.story.lose_data, seat, kept))

    def check(self) -> None:
        """What it had paid on, and forgot the preimage of before it had collected it, it may lose: that is shown."""
        lost = self.story.no_loss.lost[self._seat]  # type: ignore[attr-defined]  # of a network
        self.story.world.stats["units lost by restored hubs"] += lost
        self.story.world.stats["hubs restored without a loss"] += not lost
