"""The model of liquidity: what is sure, what is likely, and what is forgotten."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.wallet.routing.town import NODES, Edge, Town, channel_id
from wallet.routing.learning import MOST_REST_MS, REST_MS, Failure, Learnt, Try, learn
from wallet.routing.liquidity import HALF_LIFE_MS, Bounds
from wallet.routing.network import Network
from wallet.routing.paths import Query
from wallet.routing.search import find_path


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 60), st.integers(1, 61))
def test_the_chance_is_that_of_a_uniform_balance(capacity: int, amount: int) -> None:
    """Against counting all balances from 0 to the capacity."""
    enough = sum(balance >= amount for balance in range(capacity + 1))
    assert Bounds.unknown(capacity).chance(amount) == pytest.approx(float(Fraction(enough, capacity + 1)))


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.integers(1, 40), st.lists(st.tuples(st.sampled_from(["cannot", "can"]), st.integers(1, 40)), max_size=6))
def test_lessons_condition_the_chance(capacity: int, said: list[tuple[str, int]]) -> None:
    """What a balance told truly, counted: every lesson leaves just the balances that agree with all of them."""
    for truth in range(capacity + 1):
        bounds = Bounds.unknown(capacity)
        left = set(range(capacity + 1))
        for _, amount in said:
            if truth >= amount:
                bounds, left = bounds.can_send(amount), {x for x in left if x >= amount}
            else:
                bounds, left = bounds.cannot_send(amount), {x for x in left if x < amount}
        for amount in range(1, capacity + 2):
            expected = sum(x >= amount for x in left) / len(left)
            assert bounds.chance(amount) == pytest.approx(expected)
            assert bounds.flipped().chance(amount) == pytest.approx(
                sum(capacity - x >= amount for x in left) / len(left)
            )


def test_a_payment_moves_what_is_known() -> None:
    bounds = Bounds.unknown(100).can_send(60).sent(60)
    assert (bounds.low, bounds.high) == (0, 40)
    assert bounds.flipped().chance(60) == 1


def test_what_was_learnt_is_forgotten_by_halves() -> None:
    refused = Bounds.unknown(1_000).cannot_send(101)
    assert refused.high == 100
    assert refused.at(HALF_LIFE_MS).high == pytest.approx(550)
    assert refused.at(40 * HALF_LIFE_MS).chance(900) == pytest.approx(Bounds.unknown(1_000).chance(900), rel=1e-3)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(st.lists(st.tuples(st.sampled_from(["cannot_send", "can_send", "sent"]), st.integers(1, 200)), max_size=12))
def test_bounds_stay_in_order_whatever_contradicts(said: list[tuple[str, int]]) -> None:
    bounds = Bounds.unknown(100)
    for verb, amount in said:
        bounds = getattr(bounds, verb)(amount).at(bounds.at_ms + 1)
        assert 0 <= bounds.low <= bounds.high <= 100
        assert 0 <= bounds.chance(50) <= 1


def two_ways() -> tuple[Town, Query]:
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10_000, Edge(), Edge())
    town.add(1, 3, 10_000, Edge())
    town.add(3, 2, 10_000, Edge(base=1))
    return town, Query(NODES[0], NODES[2], 4_000, {channel_id(0): 9_000})


def again(town: Town, learnt: Learnt, query: Query, now_ms: int) -> Network:
    """What is learnt is put into the compiled network, and into one that is compiled anew: both say the same."""
    graph = town.graph()
    network = town.network()
    for name, known in learnt.bounds():
        network.teach(name, known)
    fresh = Network(graph, learnt.bounds())
    assert [list(side) for side in network.bounds(now_ms)] == [list(side) for side in fresh.bounds(now_ms)]
    return network


def test_a_retry_goes_another_way_and_comes_back_later() -> None:
    """ "retries that learn": a refusal for want of money, after which the detour is better, until it is forgotten."""
    town, query = two_ways()
    learnt, channels = Learnt(), town.graph().channels
    first = find_path(town.network(), query)
    assert [hop.channel for hop in first.legs] == [channel_id(0), channel_id(1)]
    learn(learnt, channels, Try(first, 1, Failure.LIQUIDITY), now_ms=0)
    network = again(town, learnt, query, 0)
    second = find_path(network, query)
    assert [hop.channel for hop in second.legs] == [channel_id(0), channel_id(2), channel_id(3)]
    learn(learnt, channels, Try(second), now_ms=0)
    known = learnt.of(channel_id(3))
    assert known is not None and known.at(0).high == 6_000
    late = 60 * HALF_LIFE_MS
    query = Query(query.source, query.target, query.amount, query.own, now_ms=late)
    assert len(find_path(again(town, learnt, query, late), query).legs) == 2
    learnt.forget(late)
    assert not list(learnt.bounds())


def test_a_small_payment_goes_where_a_large_one_failed() -> None:
    town, query = two_ways()
    learnt = Learnt()
    learn(learnt, town.graph().channels, Try(find_path(town.network(), query), 1, Failure.LIQUIDITY), 0)
    small = Query(query.source, query.target, 10, query.own)
    assert len(find_path(again(town, learnt, small, 0), small).legs) == 2


def test_a_hop_that_is_away_rests_twice_as_long_each_time() -> None:
    town, query = two_ways()
    learnt, channels = Learnt(), town.graph().channels
    route = find_path(town.network(), query)
    way = (channel_id(1), NODES[1])
    learn(learnt, channels, Try(route, 1, Failure.OTHER), 0)
    assert learnt.resting(REST_MS - 1) == {way} and not learnt.resting(REST_MS)
    learn(learnt, channels, Try(route, 1, Failure.OTHER), REST_MS)
    assert learnt.resting(3 * REST_MS - 1) == {way} and not learnt.resting(3 * REST_MS)
    learn(learnt, channels, Try(route), 3 * REST_MS)
    learn(learnt, channels, Try(route, 1, Failure.OTHER), 4 * REST_MS)
    assert not learnt.resting(5 * REST_MS), "once it worked, it starts anew"
    for _ in range(100):
        learn(learnt, channels, Try(route, 1, Failure.OTHER), 0)
    assert not learnt.resting(MOST_REST_MS)


def test_a_hint_is_believed_until_something_is_learnt() -> None:
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 1_600, Edge(hint=8))
    query = Query(NODES[0], NODES[2], 800, {channel_id(0): 9_000})
    assert find_path(town.network(), query).legs[1].chance == pytest.approx(0.99)
    learnt = Learnt()
    learn(learnt, town.graph().channels, Try(find_path(town.network(), query), 1, Failure.LIQUIDITY), 0)
    low, high = again(town, learnt, query, 0).bounds(0)
    edge = town.network().edge(channel_id(1), NODES[1])
    assert edge is not None and (low[edge], high[edge]) == (0, 799)
