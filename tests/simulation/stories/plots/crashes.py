"""Nobody lies: crashes before and after every persist and every send, at all who take part."""

from __future__ import annotations

from tests.simulation.stories.plot import Plot


class Crashes(Plot):
    """Everybody burns."""

    liars = False
    fixed = {"faults": ("burn", "break", "failing disk")}
