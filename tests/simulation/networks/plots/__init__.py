"""What happens to locks, one per file; a seed draws one. Some are those of stories of groups, over again with locks."""

from __future__ import annotations

from tests.simulation.networks.plots.closing import ClosingInTheMiddle
from tests.simulation.networks.plots.flood import Flood
from tests.simulation.networks.plots.hub_dies import HubDies
from tests.simulation.networks.plots.hub_restored import HubRestored
from tests.simulation.networks.plots.last_moment import LastMoment
from tests.simulation.networks.plots.race import ExpiryRacesClaim
from tests.simulation.networks.plots.silent import Silent
from tests.simulation.networks.plots.taken_back import TakenBack
from tests.simulation.networks.plots.tampered import Tampered
from tests.simulation.networks.plots.wormhole import Wormhole
from tests.simulation.stories.plot import Plot
from tests.simulation.stories.plots.crashes import Crashes
from tests.simulation.stories.plots.stale_wedge import StaleWedge
from tests.simulation.stories.plots.vanished import Vanished
from tests.simulation.stories.plots.withheld import Withheld

PLOTS: dict[str, type[Plot]] = {
    "closing in the middle": ClosingInTheMiddle,
    "crashes": Crashes,
    "expiry races claim": ExpiryRacesClaim,
    "flood of tiny locks": Flood,
    "hub dies": HubDies,
    "hub restored": HubRestored,
    "onions tampered with": Tampered,
    "shown at the last moment": LastMoment,
    "silent": Silent,
    "stale wedge": StaleWedge,
    "taken back": TakenBack,
    "vanished": Vanished,
    "withheld": Withheld,
    "wormhole": Wormhole,
}
"""By name; seeds take them in turn."""
