"""A payment in parts: through what no single path carries, and never beyond what a channel has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from layer1.errors import Refused
from tests.wallet.routing.test_search import case
from tests.wallet.routing.town import NODES, Edge, Town, channel_id
from wallet.routing.paths import Query
from wallet.routing.search import find_path
from wallet.routing.splitting import Plan, find_plan


def twins(*capacities: int) -> Town:
    """Node 0 reaches node 1 over nodes 2, 3, ..., each with its own capacity."""
    town = Town()
    for number, capacity in enumerate(capacities, start=2):
        town.add(0, number, 10_000)
        town.add(number, 1, capacity, Edge(base=1))
    return town


def query_of(town: Town, amount: int) -> Query:
    own = {channel_id(number): 10_000 for number, ends in enumerate(town.channels) if ends[0] == 0}
    return Query(NODES[0], NODES[1], amount, own)


def taken(plan: Plan) -> Counter[tuple[bytes, bytes]]:
    units: Counter[tuple[bytes, bytes]] = Counter()
    for hop in (hop for part in plan.parts for hop in part.legs):
        units[hop.channel, hop.sender] += hop.amount
    return units


def test_what_no_path_carries_goes_in_parts() -> None:
    town = twins(1_000, 1_000, 1_000)
    query = query_of(town, 1_500)
    with pytest.raises(Refused, match="carries 1500"):
        find_path(town.network(), query)
    plan = find_plan(town.network(), query)
    assert plan.amount == 1_500 and len(plan.parts) > 1
    assert all(units <= 1_000 for (_, sender), units in taken(plan).items() if sender != NODES[0])


def test_a_likely_path_is_not_divided() -> None:
    assert len(find_plan(twins(10**9, 10**9).network(), query_of(twins(1, 1), 1_000)).parts) == 1


def test_a_better_chance_is_worth_a_second_fee() -> None:
    """Half of what a channel has is there with a chance of a half; two quarters of two channels are likelier."""
    plan = find_plan(twins(10_000, 10_000).network(), query_of(twins(1, 1), 5_000))
    one = find_path(twins(10_000, 10_000).network(), query_of(twins(1, 1), 5_000))
    assert len(plan.parts) > 1 and plan.chance > one.chance and plan.cost < one.cost


def test_the_fee_limit_is_that_of_all_parts() -> None:
    town = twins(1_000, 1_000, 1_000)
    assert find_plan(town.network(), replace(query_of(town, 1_500), max_fee=2)).fee == 2
    with pytest.raises(Refused, match="no path"):
        find_plan(town.network(), replace(query_of(town, 1_500), max_fee=1))


def test_parts_add_up_within_every_limit() -> None:
    """Together they bring the amount, cost no more than one path would, and overdraw nothing."""
    divided = 0
    for seed in range(150):
        town, query = case(seed)
        query = replace(query, amount=query.amount + 100)
        whole = list(town.paths(query))
        try:
            plan = find_plan(town.network(), query, max_parts=4)
        except Refused:
            assert not whole
            continue
        divided += len(plan.parts) > 1
        assert plan.amount == query.amount and plan.fee <= query.max_fee and len(plan.parts) <= 4
        capacities = {channel_id(number): ends[2] for number, ends in enumerate(town.channels)}
        for (channel, sender), units in taken(plan).items():
            assert units <= (query.own[channel] if sender == query.source else capacities[channel])
        if whole:
            assert plan.cost <= min(path[2] for path in whole) + 1e-6
    assert divided > 10
