"""RESIZE racing WEDGE: owners change their groups, and a member brings wedges of any epoch beside each change."""

from __future__ import annotations

from tests.simulation.groups.roles.racing_changes import RacingChanges
from tests.simulation.stories.plot import Plot


class ResizeRace(Plot):
    """The first of the two on layer 1 wins."""

    fixed = {"resizes": True, "pause_ms": 150}

    def begin(self) -> None:
        self.corrupt(RacingChanges)
