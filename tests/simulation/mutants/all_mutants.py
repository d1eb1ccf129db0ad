"""All mutants, in the order of the design."""

from __future__ import annotations

from tests.simulation.mutants import (
    consensus,
    epochs,
    groups,
    ledger,
    locks,
    omission,
    replica,
    routes,
    snapshots,
    stories,
)
from tests.simulation.mutants.registry import MUTANTS

__all__ = [
    "MUTANTS",
    "consensus",
    "epochs",
    "groups",
    "ledger",
    "locks",
    "omission",
    "replica",
    "routes",
    "snapshots",
    "stories",
]
