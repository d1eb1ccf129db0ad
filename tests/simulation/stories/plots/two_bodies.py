"""Two bodies at one version: to different members, or to one, one after the other."""

from __future__ import annotations

from tests.simulation.groups.roles.signing_twice import SigningTwice
from tests.simulation.stories.plot import Plot


class TwoBodies(Plot):
    """Rule 5, and the proof of rule 15."""

    def begin(self) -> None:
        self.corrupt(SigningTwice)
