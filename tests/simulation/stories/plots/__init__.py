"""Adversaries of groups, one per file; a seed draws one."""

from __future__ import annotations

from tests.simulation.stories.plot import Plot
from tests.simulation.stories.plots.asleep import Asleep
from tests.simulation.stories.plots.colluding import Colluding
from tests.simulation.stories.plots.crashes import Crashes
from tests.simulation.stories.plots.final_against_newer import FinalAgainstNewer
from tests.simulation.stories.plots.lies_by_one import LiesByOne
from tests.simulation.stories.plots.lying_tower import LyingTower
from tests.simulation.stories.plots.lying_witness import LyingWitness
from tests.simulation.stories.plots.outage import Outage
from tests.simulation.stories.plots.promotion import Promotion
from tests.simulation.stories.plots.ransom import Ransom
from tests.simulation.stories.plots.replays import Replays
from tests.simulation.stories.plots.resize_race import ResizeRace
from tests.simulation.stories.plots.stale_peer import StalePeer
from tests.simulation.stories.plots.stale_wedge import StaleWedge
from tests.simulation.stories.plots.two_bodies import TwoBodies
from tests.simulation.stories.plots.vanished import Vanished
from tests.simulation.stories.plots.withheld import Withheld

PLOTS: dict[str, type[Plot]] = {
    "asleep": Asleep,
    "colluding": Colluding,
    "crashes": Crashes,
    "final against a newer state": FinalAgainstNewer,
    "lies by one": LiesByOne,
    "lying tower": LyingTower,
    "lying witness": LyingWitness,
    "outage": Outage,
    "promotion": Promotion,
    "ransom": Ransom,
    "replays": Replays,
    "resize races wedge": ResizeRace,
    "stale peer": StalePeer,
    "stale wedge": StaleWedge,
    "two bodies": TwoBodies,
    "vanished": Vanished,
    "withheld": Withheld,
}
"""By name; seeds take them in turn."""
