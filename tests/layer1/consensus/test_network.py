"""Whole networks of cores on a fake wire: liveness, latency, silence."""

from __future__ import annotations

import pytest

from tests.layer1.consensus.network import Network, config

TERMS = [1, 3, 8]


@pytest.mark.parametrize("term_views", TERMS)
@pytest.mark.parametrize("n", [1, 2, 3, 4, 7])
def test_a_good_network_orders_everything_in_two_delays_a_block(n: int, term_views: int) -> None:
    """Latency: proposal to final 3 delta, block to block 2 delta."""
    network = Network(config(n, term_views=term_views)).start()
    network.submit(10)
    assert network.run(10 * 20 + 10, lambda: network.all_at(10))
    assert network.errors == []


@pytest.mark.parametrize("term_views", TERMS)
def test_a_lone_transfer_is_final_after_three_delays(term_views: int) -> None:
    """Latency: proposal to final 3 delta."""
    network = Network(config(term_views=term_views)).start()
    network.run(100)
    network.submit()
    assert network.run(30, lambda: network.all_at(1))
    assert network.now_ms == 130
