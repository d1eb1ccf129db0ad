"""What makes n > 2f enough where nobody lies, turned around (docs/design/consensus.md, "Model")."""

from __future__ import annotations

import pytest

from layer1.consensus import quorum
from layer1.consensus.config import Config
from layer1.replica.rejoin import Rejoining
from tests.simulation.mutants.grounds import FORGOTTEN, OMISSION
from tests.simulation.mutants.registry import mutant


@mutant("Model: q = n - f, omission", OMISSION, 20)
def half_is_enough(patch: pytest.MonkeyPatch) -> None:
    """A quorum is n // 2: one vote less, and two of them share nobody."""
    patch.setattr(Config, "quorum", property(lambda self: len(self.replicas) // 2))


@mutant("Model: f is the largest that fits, omission", OMISSION, 20)
def takes_everybody_for_a_liar(patch: pytest.MonkeyPatch) -> None:
    """f is that of Byzantine faults, whatever the genesis says: fewer may fail than was promised."""
    patch.setattr(quorum, "faulty", lambda replicas, model: (replicas - 1) // 3)


@mutant("Persist before sending: from q reports", FORGOTTEN, 5)
def rejoins_on_one_report_less(patch: pytest.MonkeyPatch) -> None:
    """Who lost its journal asks one peer less: none of those asked need have seen its last votes."""

    def missing(self: Rejoining) -> int:
        return max(0, self._trust.replica_set.quorum - 1 - len(self._reports))

    patch.setattr(Rejoining, "missing", property(missing))
