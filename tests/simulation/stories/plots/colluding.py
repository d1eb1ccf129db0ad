"""Two of three collude, a member and the witness: the stated limit of a witnessed group.

They settle on a version that the honest member has left behind. What it called committed may be lost, and this is
shown, not judged; its bond, and the sums, are as always. Nor need they show the body of that version: then the money
waits for them (rule 12).
"""

from __future__ import annotations

from layer1.ledger.records import Status
from tests.simulation.stories.plots.lying_witness import LyingWitness
from tests.simulation.stories.plots.stale_wedge import StaleAt


class Colluding(LyingWitness):
    """The witness, and one of the two members."""

    shapes = ((2, True),)
    limit = True
    liars = True

    def begin(self) -> None:
        super().begin()
        self.corrupt(StaleAt)

    def check(self) -> None:
        for facts in self.story.facts.groups.values():
            hostage = facts.ledger.revealing is not None
            assert hostage or facts.ledger.status is Status.CLOSED, "Closes: two of three have claimed"
            self.story.world.stats["shown: bodies that two of three keep to themselves"] += hostage
            for member in facts.honest.values():
                lost = facts.settled_version is not None and facts.settled_version < member.committed
                self.story.world.stats["shown: committed states lost to two of three"] += lost
