"""Operators change the set in the middle of all else, and keep to what is asked of them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from layer1.ledger.replicas import ReplicaSet
from tests.simulation.network import AWFUL
from tests.simulation.scenario import NEWCOMERS, Options, Scenario


def sets_of(scenario: Scenario) -> list[ReplicaSet]:
    """By epoch, as honest replicas entered them."""
    return scenario.checkers.reference.sets


@pytest.mark.slow
@pytest.mark.parametrize("term_views", [1, 64])
def test_the_set_changes_and_all_that_run_follow(term_views: int) -> None:
    scenario = Scenario(Options(seed=4, term_views=term_views, duration_ms=8_000, changes=3))
    result = scenario.run()
    assert not result.error, result.error
    sets = sets_of(scenario)
    assert result.stats["set changes"] == len(sets) - 1 >= 2
    members = [scenario.replicas[number] for number in sets[-1].numbers]
    assert {member.core.config.epoch for member in members} == {len(sets) - 1}
    assert {member.core.index for member in members} == set(sets[-1].numbers)
    assert result.stats["handovers followed"] == len(sets) - 1  # by clients


@pytest.mark.slow
def test_no_set_has_more_faulty_replicas_than_it_may() -> None:
    """Neither at once, nor with those that lose a disk or are away."""
    options = Options(
        seed=0, replicas=7, duration_ms=5_000, roles=((1, "silent"), (8, "babbling")), lost=(2,), changes=3
    )
    for seed in range(2):
        scenario = Scenario(replace(options, seed=seed, changes=3))
        result = scenario.run()
        assert not result.error, result.error
        for replica_set in sets_of(scenario):
            assert len({1, 2, 8} & set(replica_set.numbers)) <= replica_set.faults


@pytest.mark.slow
def test_filler_makes_boundaries_final_where_messages_are_lost() -> None:
    """Of three runs it does in one at least, and what follows stands on the boundary."""
    found = 0
    for seed, term_views in ((9, 1), (11, 64), (14, 64)):
        options = Options(seed, term_views=term_views, profile=AWFUL, duration_ms=6_000, changes=3, pause_ms=150)
        result = Scenario(options).run()
        assert not result.error, f"{options}: {result.error}"
        found += result.stats["boundaries by filler"]
    assert found


def test_a_seed_says_who_may_come() -> None:
    some = [Options.from_seed(seed) for seed in range(100)]
    changing = [options for options in some if options.changes]
    assert 15 <= len(changing) <= 50
    assert any(index >= options.replicas for options in changing for index, _ in options.roles)
    for options in some:
        assert all(index < options.replicas + NEWCOMERS * options.changes for index, _ in options.roles)
    assert "changes of the set" in str(changing[0])
