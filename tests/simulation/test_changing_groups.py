"""Wallets whose users change open channels, with crashes, wedges and liars beside it: the same checkers, per epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import cache, partial
from typing import Any

import pytest
from msgspec import structs

from layer2 import changing, updating, watcher
from tests.simulation.groups.scenario import GroupOptions, GroupScenario
from tests.simulation.result import Result

SEEDS = range(12)


def options(seed: int, *, liar: bool) -> GroupOptions:
    """A short run; with a liar, one wallet brings wedges beside changes."""
    drawn = GroupOptions.from_seed(seed)
    roles = ((0, "racing changes"),) if liar else ()
    return replace(
        drawn, replicas=4, roles=(), gone=(), fault_model="byzantine", duration_ms=5_000, tight=False, resizes=True,
        wallet_roles=roles, user_pause_ms=100,
    )  # fmt: skip


@cache
def outcome(seed: int, liar: bool) -> Result:
    return GroupScenario(options(seed, liar=liar)).run()


@pytest.mark.slow
@pytest.mark.parametrize("liar", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_rule_24_no_seed_finds_a_violation(seed: int, liar: bool) -> None:
    """Conservation over all epochs, no honest bond lost, each epoch ends on all that was committed in it."""
    result = outcome(seed, liar)
    assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
@pytest.mark.parametrize("liar", [False, True])
def test_runs_change_channels_and_race_wedges(liar: bool) -> None:
    """A run in which nobody changes anything finds nothing either."""
    stats: Counter[str] = Counter()
    for seed in SEEDS:
        stats.update(outcome(seed, liar).stats)
    for what in ("changes", "changes refused: group_wedged", "changes refused: expired", "payments", "wedges"):
        assert stats[what] > 0, f"{what}: {stats[what]}"


def proposes_beside_a_change(patch: pytest.MonkeyPatch) -> None:
    """Rule 24 without "then no STATE", at both members."""
    propose, receive = updating.propose, updating.receive_propose

    def mutant(before: Any, *args: Any, original: Any) -> Any:
        after, effects = original(structs.replace(before, change=None), *args)
        return structs.replace(after, change=before.change), effects

    for module in (updating, changing):
        patch.setattr(module, "propose", partial(mutant, original=propose))
    patch.setattr(updating, "receive_propose", partial(mutant, original=receive))


def forgets_its_change(patch: pytest.MonkeyPatch) -> None:
    """Rule 24 without "until a final header shows": given up at the first look."""
    patch.setattr(watcher, "_is_dead", lambda change, shown, clock_ms: True)


def signs_whatever_base(patch: pytest.MonkeyPatch) -> None:
    """Rule 24 without k = base: as if what is in flight had never been signed."""
    propose_change = changing.propose_change

    def mutant(before: Any) -> Any:
        after, effects = propose_change(structs.replace(before, pending=None))
        return structs.replace(after, pending=before.pending), effects

    patch.setattr(changing, "propose_change", mutant)


@pytest.mark.slow
@pytest.mark.parametrize("mutate", [proposes_beside_a_change, forgets_its_change, signs_whatever_base])
def test_a_broken_core_is_found(mutate: Any) -> None:
    """One of the seeds that pass without it fails with it."""
    with pytest.MonkeyPatch.context() as patch:
        mutate(patch)
        errors = (GroupScenario(options(seed, liar=False)).run().error for seed in SEEDS)
        assert next((error for error in errors if error), None) is not None
