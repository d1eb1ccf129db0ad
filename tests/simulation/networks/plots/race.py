"""Expiry races claim: payees wait until little of a lock's time is left, and its payer takes it back at the end of it.

Nobody lies. What is claimed in time is paid, by a claim or by layer 1, and what is not goes back.
"""

from __future__ import annotations

from random import Random

from tests.simulation.networks.member import MARGIN_MS
from tests.simulation.networks.owner import NetworkOwner
from tests.simulation.networks.town import Plan
from tests.simulation.stories.plot import Plot


def at_a_margin(random: Random) -> Plan:
    """Around one of the moments at which something else has to be done: 3 M, 2 M, M before the expiry, and at it."""
    left_ms = random.choice((0, 1, 2, 3)) * MARGIN_MS + random.randint(-1_500, 1_500)
    return Plan("claim", left_ms)


class ExpiryRacesClaim(Plot):
    """Claims come late."""

    liars = False

    def begin(self) -> None:
        for owner in self.story.owners:
            assert isinstance(owner, NetworkOwner), "this is a network"
            owner.draw, owner.most_ms = at_a_margin, 5 * MARGIN_MS
