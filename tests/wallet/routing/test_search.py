"""Paths: never dearer than any other with as good a chance, within all limits, found again and again."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from layer1.errors import Refused
from tests.wallet.routing.town import NODES, Edge, Town, Way, channel_id
from wallet.routing.announcements import fee_units
from wallet.routing.paths import Path, Query
from wallet.routing.search import find_path

SEEDS = 400


def edges(chance: Random) -> Edge | None:
    """Terms that matter: fees of all kinds, limits that are sometimes in the way."""
    if chance.random() < 0.1:
        return None
    return Edge(
        base=chance.randint(0, 20),
        ppm=chance.choice([0, 1_000, 50_000, 400_000]),
        least=chance.choice([1, 1, 1, 1, 90]),
        most=chance.choice([2**40, 2**40, 60, 130]),
        margin_ms=chance.choice([0, 0, 0, 0, 200_000_000]),
        enabled=chance.random() < 0.9,
        hint=chance.choice([None, None, 8, 16]),
    )


def case(seed: int) -> tuple[Town, Query]:
    """A few nodes, about three channels each, often two between the same; a payment from the first to the last."""
    chance = Random(seed)
    town, size = Town(), chance.randint(3, 6)
    ends = [(0, chance.randrange(1, size)), (chance.randrange(size - 1), size - 1)]
    for _ in range(chance.randint(size, 10)):
        first, second = chance.sample(range(size), 2)
        ends.append((first, second))
    for first, second in ends:
        town.add(first, second, chance.choice([100, 140, 300, 1_000]), edges(chance), edges(chance))
    mine = [number for number, ends in enumerate(town.channels) if 0 in ends[:2]]
    query = Query(
        NODES[0],
        NODES[size - 1],
        chance.choice([1, 20, 80, 100]),
        {channel_id(number): chance.choice([0, 110, 500]) for number in mine},
        max_fee=chance.choice([10**9, 10**9, 30]),
        max_hops=chance.choice([20, 20, 3]),
        aversion=chance.choice([None, 0.0, 200.0]),
    )
    return town, query


def found(town: Town, query: Query) -> Path | None:
    try:
        return find_path(town.network(), query)
    except Refused as error:
        if error.code != "no_route":
            raise
        return None


def check_route(query: Query, every: list[Way], route: Path) -> None:
    """It is one of all paths, priced as the dumb twin prices it, and none beats it."""
    same = [path for path in every if path[3] == tuple(hop.channel for hop in route.legs)]
    assert [path[0] for path in same] == [route.fee], (same, route)
    assert same[0][1] == pytest.approx(route.chance)
    assert same[0][2] == pytest.approx(route.cost)
    best = min(path[2] for path in every)
    assert route.cost <= best + 1e-6 * max(best, 1)
    for fee, chance, _, path in every:
        if query.price > 0 and chance >= route.chance:
            assert route.fee <= fee, f"{path} has no smaller chance, {chance}, and costs {fee}"


def test_no_path_with_as_good_a_chance_is_cheaper() -> None:
    """Against every simple path of small networks: the minimum is exact, limits hold, and nothing is overlooked."""
    choices = []
    for seed in range(SEEDS):
        town, query = case(seed)
        route = found(town, query)
        ways = list(town.paths(query))
        choices.append(len(ways))
        if route is None:
            assert not ways, seed
        else:
            check_route(query, ways, route)
    assert sum(number > 2 for number in choices) > SEEDS / 4, "most of these networks leave no choice"


def test_fees_grow_backwards() -> None:
    """Each hop is paid for what it forwards, later hops' fees included."""
    town = Town()
    for number in range(4):
        town.add(number, number + 1, 10_000, Edge(base=1, ppm=100_000))
    route = find_path(town.network(), Query(NODES[0], NODES[4], 1_000, {channel_id(0): 5_000}))
    assert [hop.amount for hop in route.legs] == [1_336, 1_213, 1_101, 1_000]
    for hop, following in zip(route.legs[:-1], route.legs[1:], strict=True):
        assert hop.amount == following.amount + following.fee
        assert following.fee == fee_units(1, 100_000, following.amount)
    assert route.legs[0].fee == 0 and route.legs[-1].amount == 1_000


def test_a_limit_that_only_the_fees_break_is_kept() -> None:
    """The bare amount fits the cheap way, the amount with later fees does not."""
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10_000, Edge(most=1_000))
    town.add(1, 2, 10_000, Edge(base=50))
    town.add(2, 3, 10_000, Edge(base=7))
    route = find_path(town.network(), Query(NODES[0], NODES[3], 1_000, {channel_id(0): 5_000}, aversion=0.0))
    assert [hop.channel for hop in route.legs] == [channel_id(0), channel_id(2), channel_id(3)]


def test_a_dearer_end_that_leaves_less_to_carry_is_tried_too() -> None:
    """Over the likelier channel of node 2 its fee makes the payment too large for the one before."""
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10**6, Edge(most=1_000))
    town.add(2, 3, 10**9, Edge(base=5))
    town.add(2, 3, 1_100, Edge())
    route = find_path(town.network(), Query(NODES[0], NODES[3], 1_000, {channel_id(0): 5_000}))
    assert [hop.channel for hop in route.legs] == [channel_id(0), channel_id(1), channel_id(3)]


def test_the_payers_own_balance_is_exact() -> None:
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10**9, Edge(base=1))
    for can_send, reachable in ((101, True), (100, False)):
        query = Query(NODES[0], NODES[2], 100, {channel_id(0): can_send})
        assert (found(town, query) is not None) is reachable


def test_what_is_to_be_avoided_is_avoided() -> None:
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10_000, Edge())
    town.add(1, 2, 10_000, Edge(base=5))
    query = Query(NODES[0], NODES[2], 100, {channel_id(0): 500})
    assert find_path(town.network(), query).fee == 0
    assert find_path(town.network(), replace(query, avoid=frozenset({(channel_id(1), NODES[1])}))).fee == 5


def circle() -> Town:
    town = Town()
    town.add(0, 1, 1_000, back=Edge(base=3))
    town.add(1, 2, 1_000, Edge(base=5), Edge(base=5))
    town.add(2, 0, 1_000, Edge(base=7))
    town.add(2, 0, 1_000, Edge(base=1))
    return town


@pytest.mark.parametrize(
    ("first", "last", "channels", "fee"),
    [(0, 2, (0, 1, 2), 12), (0, None, (0, 1, 3), 6), (None, 2, (3, 2), 7), (3, 0, (3, 1, 0), 8)],
)
def test_a_circle_through_given_channels(
    first: int | None, last: int | None, channels: tuple[int, ...], fee: int
) -> None:
    """Rebalancing: out by the first channel, back by the last, never through oneself on the way."""
    own = {channel_id(number): 500 for number in (0, 2, 3)}
    query = Query(
        NODES[0], NODES[0], 100, own,
        first=None if first is None else channel_id(first), last=None if last is None else channel_id(last),
    )  # fmt: skip
    route = find_path(circle().network(), query)
    assert tuple(hop.channel for hop in route.legs) == tuple(map(channel_id, channels))
    assert route.fee == fee
    assert route.legs[0].sender == route.legs[-1].receiver == NODES[0]


def test_a_circle_needs_a_channel() -> None:
    with pytest.raises(Refused, match="leave by"):
        find_path(circle().network(), Query(NODES[0], NODES[0], 100, {channel_id(0): 500}))
    query = Query(NODES[0], NODES[0], 100, {channel_id(0): 500}, first=channel_id(0), last=channel_id(0))
    with pytest.raises(Refused, match="by one channel"):
        find_path(circle().network(), query)


@pytest.mark.parametrize(
    ("change", "code", "words"),
    [
        ({"amount": 0}, "bad_amount", "the least is 1"),
        ({"target": NODES[9]}, "unknown_node", "no open channel"),
        ({"amount": 600}, "no_route", "600 units"),
        ({"first": channel_id(9)}, "bad_channel", "no open channel"),
    ],
)
def test_a_refusal_names_the_numbers_and_the_remedy(change: dict[str, object], code: str, words: str) -> None:
    town = Town()
    town.add(0, 1, 1_000)
    town.add(1, 2, 1_000, Edge(base=2, most=400))
    query = replace(Query(NODES[0], NODES[2], 100, {channel_id(0): 500}), **change)  # type: ignore[arg-type]
    with pytest.raises(Refused, match=words) as refusal:
        find_path(town.network(), query)
    assert refusal.value.code == code
