"""What operators are told of the others: who is slow or silent, and which view ended why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from layer1.consensus.events import Validated, WorkChanged
from layer1.consensus.messages import Nullify
from layer1.consensus.observing import WINDOW_VIEWS, Observations, Why
from tests.layer1.consensus.network import genesis
from tests.layer1.consensus.test_rules import Bench, said
from tests.layer1.consensus.test_terms import bench_of, given_up
from tests.layer1.replica.network import Network, transfer


def late() -> Bench:
    bench = Bench()
    bench.do(WorkChanged(True, None))
    bench.wait(1_000)
    return bench


def invalid() -> Bench:
    bench = Bench()
    proposal = bench.proposal(1, genesis())
    bench.get(proposal)
    bench.do(Validated(proposal.vote.block, False, "roots"))
    return bench


def silent() -> Bench:
    bench = Bench(index=0)
    for view in (1, 2):
        for index in (1, 2):
            bench.get(bench.signers[index].notarize(view, bytes(32)), sender=index)
        bench.get(bench.notarization(view, bytes(32)), sender=1)
    bench.get(bench.notarization(6, bytes(32)), sender=1)
    return bench


def long_term() -> Bench:
    bench = bench_of(8, view_timeout_ms=1_000, max_view_timeout_ms=1_000, max_term_ms=2_800)
    given_up(bench, 950, final=True)
    return bench


def passed_over() -> Bench:
    bench = Bench({"view_timeout_ms": 8_000, "stall_timeout_ms": 9_000, "inclusion_timeout_ms": 8_000})
    bench.wait(3_000)
    bench.do(WorkChanged(True, 1_000))
    bench.wait(7_000)
    return bench


def stalled() -> Bench:
    bench = bench_of(8, view_timeout_ms=1_000, stall_timeout_ms=1_500)
    given_up(bench, 700, final=False)
    return bench


REASONS: list[tuple[Why, Callable[[], Bench], int]] = [
    (Why.TIMEOUT, late, 1),
    (Why.INVALID, invalid, 1),
    (Why.SILENT, silent, 7),
    (Why.LONG_TERM, long_term, 8),
    (Why.PASSED_OVER, passed_over, 1),
    (Why.STALLED, stalled, 8),
]
"""Why, how it comes to it, and a view of the leader that is given up on."""


@pytest.mark.parametrize(("why", "scenario", "view"), REASONS, ids=[why.value for why, _, _ in REASONS])
def test_each_reason_to_give_up_is_counted_with_its_leader(why: Why, scenario: Callable[[], Bench], view: int) -> None:
    """Rules 3, 6 and 8: "which view timed out why"."""
    bench = scenario()
    leader = bench.config.leader(view)
    assert bench.core.seen.nullified == Counter({(why, leader): 1})
    given_up = bench.core.seen.nullified_view[why, leader]
    assert bench.config.leader(given_up) == leader and given_up <= bench.core.view


def test_every_reason_has_a_scenario() -> None:
    assert [why for why, _, _ in REASONS] == list(Why)


def test_terms_that_a_quorum_gave_up_are_counted_once() -> None:
    bench = Bench({"term_views": 8})
    bench.get(bench.nullification(1), bench.nullification(1))
    assert bench.core.seen.nullifications == Counter({bench.config.leader(1): 1})
    assert said(bench.wait(10), Nullify) == []


class Slow(Network):
    """What replica 3 says takes 40 ms longer."""

    def _send(self, sender: int, receiver: int, data: bytes) -> None:
        before, slow = self.delay_ms, 40 * (sender == 3)
        self.delay_ms = lambda: before() + slow
        try:
            super()._send(sender, receiver, data)
        finally:
            self.delay_ms = before


def test_the_slow_replica_is_told_from_the_others() -> None:
    """Everywhere its votes come latest, also when the quorum is full without them: "which replica is slow"."""
    network = Slow()
    for count in range(1, 21):
        network.submit(0, [transfer()])
        network.run_until(network.everybody_has(count))
    network.run_for(200)
    for node in network.nodes[:3]:
        seen = node.core.consensus.seen
        mean = [seen.delay_ms[index] / max(seen.votes[index], 1) for index in range(4)]
        assert seen.votes[3] >= 15, "late votes are counted, too"
        others = [mean[index] for index in range(3)]
        assert mean[3] > 30 > max(others) + 10, mean


def test_a_vote_counts_once_and_only_near_our_view() -> None:
    """Whoever repeats itself, or votes in views of its own, changes no figure and fills no memory."""
    seen = Observations(4)
    for _ in range(3):
        seen.vote(1, 10, 10, 100)
        seen.vote(2, 10, 10, 130)
    assert (seen.votes, seen.delay_ms) == ([0, 1, 1, 0], [0, 0, 30, 0])
    for view in (10 + WINDOW_VIEWS, 10 - WINDOW_VIEWS, 2**62, -1):
        seen.vote(3, view, 10, 100)
    assert seen.votes[3] == 0
    for current in range(0, 5_000, 7):
        for view in range(current - 300, current + 300, 3):
            seen.vote(3, view, current, 100)
    assert len(seen._views) <= 2 * WINDOW_VIEWS
