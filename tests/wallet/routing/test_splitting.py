"""A payment in parts: through what no single path carries, and never beyond what a channel has."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from layer1.errors import Refused
from tests.wallet.routing.test_search import case
from tests.wallet.routing.town import NODES, Edge, Town, channel_id
from wallet.routing import search, splitting
from wallet.routing.paths import Path, Query
from wallet.routing.prices import Prices
from wallet.routing.search import find_path
from wallet.routing.splitting import Plan, find_plan, in_flight


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


def parts_of(town: Town, query: Query, few: int, patch: pytest.MonkeyPatch) -> list[float | None]:
    """What each of some parts costs, with prices that all of them share, one after the other in flight."""
    patch.setattr(search, "FEW_VISITS", few)
    prices, costs, taken = Prices(town.network(), query), list[float | None](), dict[tuple[bytes, bytes], int]()
    for amount in (80, 41, 40, 39, 20, 2, 1):
        try:
            part = search.find_part(prices, amount, query.max_fee, taken)
        except Refused:
            costs.append(None)
            continue
        costs.append(part.cost)
        taken = in_flight(taken, Plan((part,)))
    return costs


def test_shared_prices_find_for_each_part_what_its_own_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds for an amount serve larger ones, and more in flight: no part is dearer for it, and none is overlooked."""
    found = 0
    for seed in range(120):
        town, query = case(seed)
        query, taken = replace(query, aversion=query.price), dict[tuple[bytes, bytes], int]()
        alone: list[float | None] = []
        for amount in (80, 41, 40, 39, 20, 2, 1):
            try:
                part = find_path(town.network(), replace(query, amount=amount, in_flight=taken))
            except Refused:
                alone.append(None)
                continue
            alone.append(part.cost)
            taken = in_flight(taken, Plan((part,)))
        found += sum(cost is not None for cost in alone)
        for few in (500, 1):
            shared = parts_of(town, query, few, monkeypatch)
            assert shared == [None if cost is None else pytest.approx(cost) for cost in alone], (seed, few)
    assert found > 300


def test_what_cannot_leave_or_arrive_is_not_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """However it is divided: our channels together, or the payee's, have too little."""
    looked: list[int] = []

    def find_part(prices: Prices, amount: int, max_fee: int, taken: splitting.Taken) -> Path:
        looked.append(amount)
        return search.find_part(prices, amount, max_fee, taken)

    monkeypatch.setattr(splitting, "find_part", find_part)
    town = twins(1_000, 1_000, 1_000)
    for amount in (3_001, 40_000):
        with pytest.raises(Refused, match=str(amount)):
            find_plan(town.network(), query_of(town, amount))
    assert looked == []
    assert find_plan(town.network(), query_of(town, 2_500)).amount == 2_500 and looked
