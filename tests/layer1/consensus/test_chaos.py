"""Many short seeded runs: crashes, partitions, loss, reordering, duplicates, and a traitor; then convergence."""

from __future__ import annotations

import pytest

from tests.layer1.consensus.network import Network, config
from tests.layer1.consensus.scenarios import OPTIONS, chaos

TERMS = [1, 3, 8, 64]


@pytest.mark.slow
@pytest.mark.parametrize("term_views", TERMS)
@pytest.mark.parametrize("block", range(4))
def test_safe_while_anything_happens_and_live_afterwards(term_views: int, block: int) -> None:
    """All final blocks of all honest replicas lie on one chain; a healed network orders what is pending."""
    for seed in range(block * 20, block * 20 + 20):
        chaos(seed, term_views)


@pytest.mark.slow
@pytest.mark.parametrize("term_views", TERMS)
def test_seven_replicas(term_views: int) -> None:
    """n = 7 tolerates two; here one lies and the rest crash at will."""
    for seed in range(8):
        chaos(seed, term_views, n=7)


@pytest.mark.slow
@pytest.mark.parametrize("term_views", TERMS)
def test_omission_faults_need_fewer_replicas(term_views: int) -> None:
    """Model: with n > 2f and faults that only lose messages, two quorums meet in at least one replica."""
    for seed in range(20):
        chaos(seed, term_views, n=3, traitor=False, fault_model="omission")


@pytest.mark.slow
def test_the_same_run_twice_is_the_same_run() -> None:
    """The simulator is deterministic: one seed, one trace."""
    assert chaos(11, 3).digest == chaos(11, 3).digest


@pytest.mark.slow
@pytest.mark.parametrize("term_views", TERMS)
def test_an_equivocating_leader_is_accused(term_views: int) -> None:
    """Evidence: two notarize votes of one replica in one view for different blocks."""
    accused = set()
    for seed in range(6):
        network = chaos(seed, term_views, traitor=True)
        assert network.accused <= network.byzantine
        accused |= network.accused
    assert accused


@pytest.mark.parametrize("term_views", TERMS)
def test_a_dead_leader_costs_one_timeout(term_views: int) -> None:
    """Rule 6: skip a dead leader without waiting, once it has been silent for r views."""
    network = Network(config(term_views=term_views)).start()
    network.submit(2)
    assert network.run(1_000, lambda: network.all_at(2))
    network.run(50)
    network.crash(network.nodes[0].core.leader)
    begun_ms = network.now_ms
    for _ in range(30):
        goal = network.final_height() + 1
        network.submit()
        assert network.run(3_000, lambda goal=goal: network.all_at(goal))  # type: ignore[misc]  # mypy can't infer it
    assert network.now_ms - begun_ms < network.config.view_timeout_ms + 30 * 2 * 60


@pytest.mark.parametrize("term_views", TERMS)
def test_an_idle_network_is_silent_but_for_heartbeats(term_views: int) -> None:
    """Rule 9: an idle ledger is silent but for heartbeats."""
    network = Network(config(term_views=term_views, **OPTIONS)).start()
    network.submit()
    assert network.run(1_000, lambda: network.all_at(1))
    network.run(50)
    before, height = len(network.sent), network.final_height()
    network.run(OPTIONS["heartbeat_ms"] - 100)
    assert len(network.sent) == before
    network.run(OPTIONS["heartbeat_ms"] * 10)
    assert network.final_height() in {height + 10, height + 9}
    # A block costs a proposal, two rounds of votes and two of certificates.
    assert len(network.sent) - before <= 10 * (3 + 9 + 12 + 12 + 12)
