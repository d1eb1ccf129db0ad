"""Dishonest wallets, one role per file: an honest wallet whose messages, signatures and disk somebody plays with.

So they are plausible: they know all that an honest wallet knows, sign with their own keys, and lie where that helps.
"""

from __future__ import annotations

from tests.simulation.groups.roles.babbling import Babbling
from tests.simulation.groups.roles.feigning_loss import FeigningLoss
from tests.simulation.groups.roles.going_on import GoingOn
from tests.simulation.groups.roles.lying_in_reports import LyingInReports
from tests.simulation.groups.roles.racing_changes import RacingChanges
from tests.simulation.groups.roles.replaying import Replaying
from tests.simulation.groups.roles.restored import Restored
from tests.simulation.groups.roles.role import Role
from tests.simulation.groups.roles.signing_twice import SigningTwice
from tests.simulation.groups.roles.stealing import Stealing
from tests.simulation.groups.roles.vanishing import Vanishing
from tests.simulation.groups.roles.wedging_stale import WedgingStale
from tests.simulation.groups.roles.withholding import Withholding

ROLES: dict[str, type[Role]] = {
    "babbling": Babbling,
    "feigning loss": FeigningLoss,
    "going on": GoingOn,
    "lying in reports": LyingInReports,
    "replaying": Replaying,
    "restored": Restored,
    "signing twice": SigningTwice,
    "stealing": Stealing,
    "vanishing": Vanishing,
    "wedging stale": WedgingStale,
    "withholding": Withholding,
}
"""By name."""

CHANGING = {"racing changes": RacingChanges}
"""Where users change channels."""
