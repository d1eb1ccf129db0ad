"""Every role does its mischief, nothing follows from it, and with one traitor too many the checkers notice."""

from __future__ import annotations

import pytest

from tests.simulation.byzantine import ROLES
from tests.simulation.network import CALM
from tests.simulation.scenario import Options, Scenario, run


def outcome(role: str, **options: int) -> Scenario:
    scenario = Scenario(Options(seed=5, duration_ms=2_000, roles=((1, role),), profile=CALM, **options))  # type: ignore[arg-type]
    result = scenario.run()
    assert not result.error, result.error
    assert result.height >= 3
    return scenario


@pytest.mark.slow
@pytest.mark.parametrize("role", sorted(ROLES))
@pytest.mark.parametrize("term_views", [1, 8])
def test_one_traitor_changes_nothing(role: str, term_views: int) -> None:
    outcome(role, term_views=term_views)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("role", "trace"),
    [
        ("equivocating", "Notarize of view"),
        ("voting twice", "Notarize of view"),
        ("nullifying", "Nullify"),
        ("babbling", "bytes do not decode"),
        ("lying about its floor", "accuses 1"),
    ],
)
def test_it_is_found_out(role: str, trace: str) -> None:
    """Honest replicas see what it does, so it does it."""
    found = False
    for seed in range(10):
        options = Options(seed, duration_ms=3_000, roles=((1, role),), faults=("kill", "split"), pause_ms=150)
        result = Scenario(options, keep_trace=True).run()
        assert not result.error, result.error
        found = any("accuses 1" in line and trace in line for line in result.trace)
        if found:
            break
    assert found


@pytest.mark.slow
def test_two_traitors_of_four_are_one_too_many() -> None:
    """Beyond the assumption agreement breaks: the checkers see it, so they look at something."""
    roles = ((1, "equivocating"), (2, "voting twice"))
    errors = (Scenario(Options(seed, duration_ms=3_000, roles=roles, pause_ms=150)).run().error for seed in range(20))
    assert any("Violation: Agreement" in error for error in errors)


def test_a_seed_stands_for_a_run_with_at_most_f_traitors() -> None:
    for seed in range(300):
        options = Options.from_seed(seed)
        assert len({index for index, _ in options.roles}) == len(options.roles)
        assert sum(index < options.replicas for index, _ in options.roles) <= (options.replicas - 1) // 3
    assert not run(2).error
