"""The adversaries of watchtowers, and mutants of the core that they find."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from msgspec import structs

from layer1.ledger.records import Status
from layer2 import tower as core
from tests.simulation.towers import lying_tower, stale_wedge
from tests.simulation.towers.world import TowerProcess

SEEDS = 70
"""Each version is wedged ten times."""


def hunt() -> None:
    """All seeds; the first violation ends it."""
    for seed in range(SEEDS):
        stale_wedge.run(seed)


def test_an_honest_tower_keeps_its_word_whatever_happens() -> None:
    """Issue 5: "stale wedge at every earlier version, while every honest party is offline but the watchtower"."""
    villages = [stale_wedge.run(seed) for seed in range(SEEDS)]
    assert sum(village.tower.kills for village in villages) > SEEDS / 2
    assert {seed % (stale_wedge.NEWEST + 1) for seed in range(SEEDS)} == set(range(stale_wedge.NEWEST + 1))
    assert sum(bool(village.tower.receipts) for village in villages) > SEEDS * 0.9


@pytest.mark.parametrize("stale", range(lying_tower.NEWEST))
@pytest.mark.parametrize("lie", lying_tower.LIES)
def test_a_tower_that_lies_harms_nobody_but_who_slept_and_is_shown_to_have(lie: str, stale: int) -> None:
    """Issue 5: "a watchtower that lies"; "a watchtower that broke its receipt can be proven to have"."""
    lying_tower.run(lie, stale)


# ---------------------------------------------------------------------------------------------------------- mutants

Patch = pytest.MonkeyPatch
_answer, _entrust, _receipt, _look = core.answer, core.entrust, core._receipt, TowerProcess.look


def speaks_before_it_is_durable(patch: Patch) -> None:
    """Decision 032: `Keep` is a barrier."""
    patch.setattr(core, "entrust", lambda *a: sorted(_entrust(*a), key=lambda e: isinstance(e, core.Keep)))


def forgets_at_a_restart(patch: Patch) -> None:
    burn = TowerProcess._burn

    def forgetful(self: TowerProcess) -> None:
        kills = self.kills
        try:
            burn(self)
        finally:
            if self.kills > kills:
                self.disk.clear()

    patch.setattr(TowerProcess, "_burn", forgetful)


def drops_when_wedged(patch: Patch) -> None:
    def mutant(guarded: Any, shown: Any) -> Any:
        if shown.status is Status.WEDGED:
            return [core.Drop(each.group_id, each.customer) for each in guarded]
        return _answer(guarded, shown)

    patch.setattr(core, "answer", mutant)


def reports_the_oldest(patch: Patch) -> None:
    """Of two customers in one group, one is behind."""
    patch.setattr(core, "max", min, raising=False)


def reports_only_what_is_far_ahead(patch: Patch) -> None:
    def mutant(guarded: Any, shown: Any) -> Any:
        effects = _answer(guarded, shown)
        near = any(each.version == shown.version + 1 for each in guarded)
        return [e for e in effects if not (near and isinstance(e, core.Submit))]

    patch.setattr(core, "answer", mutant)


def reports_once(patch: Patch) -> None:
    """What was sent counts, not what layer 1 shows: a kill in between, and it is never sent."""
    sent: set[int] = set()

    def mutant(self: TowerProcess) -> None:
        wedged = self.court.group.status is Status.WEDGED
        if wedged and id(self) in sent:
            return
        if wedged:
            sent.add(id(self))
        _look(self)

    patch.setattr(TowerProcess, "look", mutant)


def takes_lower_versions(patch: Patch) -> None:
    def mutant(policy: Any, tower: Any, visit: core.Visit) -> Any:
        held = visit.held
        if held is not None and visit.message.header.version < held.version:
            older = structs.replace(held, certificate=visit.message.certificate)
            return [core.Keep(older), core.Promise(_receipt(tower, older, visit.clock_ms))]
        return _entrust(policy, tower, visit)

    patch.setattr(core, "entrust", mutant)


def checks_no_signatures(patch: Patch) -> None:
    patch.setattr(core, "_check_signatures", lambda *_: None)


def checks_the_first_signature_alone(patch: Patch) -> None:
    check = core._check_signatures
    patch.setattr(
        core,
        "_check_signatures",
        lambda keys, certificate: check(keys[:1], structs.replace(certificate, signatures=certificate.signatures[:1])),
    )


def checks_no_delegation(patch: Patch) -> None:
    """Layer 1 refuses the whole report then."""
    patch.setattr(core, "_check_delegation", lambda *_: None)


def promises_disputes_that_have_begun(patch: Patch) -> None:
    """Decision 032: "without the first, a customer could ask for a receipt a moment before a deadline"."""
    patch.setattr(core, "_receipt", lambda *a: structs.replace(_receipt(*a), clock_ms=0))


def leaves_its_bounty_to_who_copies(patch: Patch) -> None:
    """Rule 17: whoever copies the report and is quicker would rob the tower."""
    patch.setattr(core, "_is_owed", lambda *_: False)


def forgets_what_it_promised_too_soon(patch: Patch) -> None:
    patch.setattr(core, "is_over", lambda guarded, clock_ms: clock_ms > guarded.until_ms - 995_000)


MUTANTS: list[Callable[[Patch], None]] = [
    speaks_before_it_is_durable,
    forgets_at_a_restart,
    drops_when_wedged,
    reports_the_oldest,
    reports_only_what_is_far_ahead,
    reports_once,
    takes_lower_versions,
    checks_no_signatures,
    checks_the_first_signature_alone,
    checks_no_delegation,
    promises_disputes_that_have_begun,
    leaves_its_bounty_to_who_copies,
    forgets_what_it_promised_too_soon,
]


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.__name__ for mutant in MUTANTS])
def test_every_mutant_of_the_tower_is_found(mutant: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """A check that nothing trips proves nothing."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        hunt()
