"""The ledger of a simulated world: its genesis, its people, and its replicas' keys."""

from __future__ import annotations

from functools import cache

from layer1.consensus.quorum import FaultModel
from layer1.crypto import SigningKey
from layer1.ledger.genesis import Allocation, Currency, Genesis, Parameters
from tests.layer1.ledger.world import key
from tests.simulation.clocks import START_WALL_MS

FUNDS = 1_000
"""What each person has at first, minor units: little, so that payments fail now and then."""
PEOPLE = tuple(key(f"person {i}") for i in range(4))
CHALLENGE_MS = 2_000
"""Challenge period of the groups in a run, ledger clock."""


@cache
def replica_key(index: int) -> SigningKey:
    """The same key for the same index, always."""
    return key(f"replica {index}")


@cache
def genesis(replicas: int, term_views: int, fault_model: FaultModel = "byzantine") -> Genesis:
    """The genesis of all runs of this shape. One per shape, so that processes remember checks from run to run."""
    return Genesis(
        name="simulated",
        salt=bytes(16),
        currency=Currency("WDG", 2),
        allocations=tuple(Allocation(person.public, FUNDS) for person in PEOPLE),
        replicas=tuple(replica_key(index).public for index in range(replicas)),
        fault_model=fault_model,
        wall_time=START_WALL_MS,
        parameters=Parameters(
            drift_bound_ms=500,
            heartbeat_ms=2_000,
            view_timeout_ms=500,
            min_challenge_ms=1_000,
            term_views=term_views,
        ),
    )
