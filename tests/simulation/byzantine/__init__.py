"""Byzantine replicas, one role per file: an honest core whose messages are changed on their way in and out.

So they are plausible: they know all that an honest replica knows, sign with their own key, and vote where that helps.
"""

from __future__ import annotations

from tests.simulation.byzantine.babbling import Babbling
from tests.simulation.byzantine.censoring import Censoring
from tests.simulation.byzantine.equivocating import Equivocating
from tests.simulation.byzantine.lying_about_floor import LyingAboutFloor
from tests.simulation.byzantine.nullifying import Nullifying
from tests.simulation.byzantine.old_copy import OldCopy
from tests.simulation.byzantine.poisoning import Poisoning
from tests.simulation.byzantine.replaying import Replaying
from tests.simulation.byzantine.role import Role
from tests.simulation.byzantine.silent import Silent
from tests.simulation.byzantine.voting_twice import VotingTwice
from tests.simulation.byzantine.withholding import Withholding
from tests.simulation.byzantine.wrong_root import WrongRoot

ROLES: dict[str, type[Role]] = {
    "silent": Silent,
    "equivocating": Equivocating,
    "voting twice": VotingTwice,
    "nullifying": Nullifying,
    "withholding": Withholding,
    "wrong root": WrongRoot,
    "babbling": Babbling,
    "replaying": Replaying,
    "lying about its floor": LyingAboutFloor,
    "censoring": Censoring,
    "old copy": OldCopy,
    "poisoning": Poisoning,
}
"""By name."""
