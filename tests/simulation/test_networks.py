"""Networks at every check: each plot, what they are meant to do, and the same trace for the same seed."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from tests.simulation.networks.network import run_network
from tests.simulation.networks.plots import PLOTS
from tests.simulation.result import Result

SEEDS = range(2 * len(PLOTS))
FOUND = {
    20192: "a hub that restarted forwarded what layer 1 had paid in a closed channel",
    40139: "a forwarder noted what became of its offers in a journal that had failed",
    40222: "a hop keeps what is paid again under a hash whose preimage is out: both ends need not agree then",
}
"""Seeds of earlier versions, and what they showed."""


@cache
def outcome(seed: int) -> Result:
    return run_network(seed)


@pytest.mark.slow
@pytest.mark.parametrize("plot", sorted(PLOTS))
def test_no_network_finds_a_violation(plot: str) -> None:
    """Issue 6: "Adversaries, in the simulator"."""
    seeds = [seed for seed in SEEDS if sorted(PLOTS)[seed % len(PLOTS)] == plot]
    assert len(seeds) == 2
    for seed in seeds:
        result = outcome(seed)
        assert not result.error, f"{result.options}: {result.error}"


@pytest.mark.slow
@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_is_not_found_again(seed: int) -> None:
    result = run_network(seed)
    assert not result.error, f"{FOUND[seed]}: {result.error}"


@pytest.mark.slow
def test_networks_do_what_they_are_meant_to() -> None:
    """A network in which nothing happens finds nothing either."""
    stats: Counter[str] = Counter()
    for seed in SEEDS:
        stats.update(outcome(seed).stats)
    routes = ("offers over 1 hops", "offers over 2 hops", "offers over 3 hops", "wormholes", "data lost")
    onions = ("onions: bit", "onions: cut", "onions: noise", "onions: old", "onions: twice")
    ends = ("locks claimed", "locks released", "locks expired", "locks paid", "locks returned")
    moments = ("registered at the expiry -1 ms", "registered at the expiry +0 ms", "registered at the expiry +1 ms")
    beside = ("kills", "wedges", "closed by final", "locks of a flood", "floods refused: too_many_locks")
    lies = ("answers that never came", "signatures withheld", "claims denied", "bonds forfeited")
    for what in ends + moments + beside + lies + routes + onions:
        assert stats[what] > 0, f"{what}: {stats[what]}"
    assert stats["locks in flight at a close"] >= 20


@pytest.mark.slow
def test_the_same_seed_gives_the_same_trace_hash() -> None:
    first, second = outcome(0), run_network(0, keep_trace=True)
    assert first.steps > 5_000
    assert first.trace_hash == second.trace_hash != outcome(len(PLOTS)).trace_hash
