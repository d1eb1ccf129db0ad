"""A forwarder that dies between its two sides, at every step: each of its lives ends after so many effects.

An effect is a record that is appended, a sync, a message that leaves, or a word to layer 1. How many goes up with the
seed. Nobody lies.
"""

from __future__ import annotations

from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.plot import Plot

STEPS = 90
"""Effects of a life at most; a link alone takes some."""


class HubDies(Plot):
    """Rule 23, wherever it dies."""

    liars = False
    needs_hub = True
    fixed = {"faults": ()}

    def begin(self) -> None:
        for seat in self.options.hubs:  # type: ignore[attr-defined]  # of a network
            self.story.members[seat].on_start.append(self._light)

    def _light(self, member: MemberProcess, life: Life) -> None:
        if not self.story.is_healing:
            member.fuse = 12 + (7 * self.options.step + self.random.randint(0, 30)) % STEPS
