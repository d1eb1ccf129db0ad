"""A few runs at every check; continuous integration runs hundreds of fresh ones (`python -m tests.simulation`)."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.simulation.scenario import Options, Result, Scenario, run

FOUND = {
    142: "what became final while its signatures were verified was packed again, and then called dead",
    186: "answers to a late replica that came late were dropped and held against their sender",
    364: "a batch that one replica held alone did not spread under a steady leader",
}
"""Seeds that found a fault, each mended in layer 1 with a test of its own there. What a seed stands for may change with
the simulator; these were of its first day."""

SEEDS = range(60)


@cache
def outcome(seed: int) -> Result:
    return run(seed)


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEEDS.start, SEEDS.stop, 10))
def test_no_seed_finds_a_violation(first: int) -> None:
    for seed in range(first, first + 10):
        result = outcome(seed)
        assert not result.error, f"{result.options}: {result.error}"
        assert result.height >= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_mended(seed: int) -> None:
    result = run(seed)
    assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
def test_whatever_may_fail_does() -> None:
    """Links, disks, clocks and processes: a run in which nothing breaks finds nothing either."""
    stats: Counter[str] = Counter()
    for seed in SEEDS:
        stats.update(outcome(seed).stats)
    links = ("cuts", "broken links", "lost messages")
    disks = ("turns lost", "slow syncs", "old copies restored", "lost disks", "rejoined", "checkpoints")
    for what in (*links, *disks, "clock jumps", "kills", "pauses", "equivocations", "stale reads refused"):
        assert stats[what] > 0, f"{what}: {stats[what]}"


def test_a_calm_network_works() -> None:
    """Nothing is vacuous: blocks, payments, groups from opening to settlement, and reads."""
    result = Scenario(Options(seed=9, duration_ms=8_000, pause_ms=100)).run()
    assert not result.error
    assert result.height > 50
    assert result.stats["output ok"] > 50 and result.stats["reads"] > 20
    assert not result.stats.get("accusations")
