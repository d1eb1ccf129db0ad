"""Conditional payments turned around, on both layers and in the wallet. Each is hunted in the networks of one plot."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from msgspec import structs

from layer1.errors import Refused
from layer1.ledger import locks as ledger_locks
from layer2 import guarding
from tests.simulation.mutants.registry import Ground, mutant
from tests.simulation.networks.network import run_network
from tests.simulation.networks.plots import PLOTS
from wallet import lock_news, locking
from wallet.locking import Duty

Patch = pytest.MonkeyPatch


@cache
def networks(plot: str) -> Ground:
    """The networks of one plot."""
    first = sorted(PLOTS).index(plot)

    def run(seed: int) -> str:
        return run_network(first + seed * len(PLOTS)).error

    return Ground(f"networks, {plot}", run)


# ------------------------------------------------------------------------------------------------------- when to sign


@mutant("groups.md, rule 22 [F9]: settles off-chain only while now + M <= expiry", networks("expiry races claim"), 30)
def claims_are_signed_at_any_time(patch: Patch) -> None:
    """A payer pays for a preimage that comes at the last moment."""
    patch.setattr(guarding, "_check_claim", lambda group, lock, margin_ms: None)


@mutant("groups.md, rule 21: to the payer once expiry has passed", networks("taken back"), 30)
def expiries_are_signed_without_a_look(patch: Patch) -> None:
    """A payee takes it that nothing was registered, when its clock says that the time is over."""

    def mutated(group: Any, lock: Any) -> None:
        if group.clock_ms <= lock.expiry_ms:
            raise Refused("not_expired", "not yet")

    patch.setattr(guarding, "_check_expire", mutated)


# ------------------------------------------------------------------------------------------------------- what is owed


@mutant("groups.md, rule 22: later the payee must register on layer 1", networks("silent"), 60)
def payees_never_register(patch: Patch) -> None:
    """It only asks, again and again."""
    duty = locking.duty

    def mutated(*args: Any, **named: Any) -> Duty:
        found = duty(*args, **named)
        return Duty.CLAIM if found is Duty.REGISTER else found

    patch.setattr(locking, "duty", mutated)


@mutant("decision 036: a preimage is known to the payer from the moment it sees the claim", networks("crashes"), 30)
def payers_are_shown_nothing(patch: Patch) -> None:
    """It pays, and has nothing to pass on."""
    patch.setattr(guarding, "shown_preimages", lambda group, commands: [])
    ended_by = lock_news.ended_by
    patch.setattr(locking, "ended_by", lambda lock, request: replace(ended_by(lock, request), preimage=None))


# --------------------------------------------------------------------------------------------------------- on layer 1


@mutant("groups.md, rule 21: if the preimage was registered by expiry", networks("shown at the last moment"), 10)
def at_the_expiry_is_too_late(patch: Patch) -> None:
    """One millisecond off."""
    timely = ledger_locks.is_timely
    patch.setattr(ledger_locks, "is_timely", lambda registration, until_ms: timely(registration, until_ms - 1))


@mutant("groups.md, rule 21: stays pending until then", networks("closing in the middle"), 10)
def closed_groups_give_locks_back(patch: Patch) -> None:
    """What is not registered when the group is settled goes to its payer."""
    paid = ledger_locks._paid

    def mutated(each: Any, registration: Any, clock_ms: int) -> Any:
        found = paid(each, registration, clock_ms)
        if found.paid_to is None:
            return structs.replace(each, paid_to=each.lock.payer, clock_ms=clock_ms)
        return found

    patch.setattr(ledger_locks, "_paid", mutated)
