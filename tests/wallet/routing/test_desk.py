"""The desk: what is wanted, what is found, why nothing is, and what is learnt from what became of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from layer1.crypto import ZERO_HASH, Hash
from layer1.errors import Refused
from tests.wallet.routing.town import KEYS, NODES, Edge, Town, announcement, channel_id
from wallet.invoices.invoice import Hint
from wallet.onion.failure import Code
from wallet.onion.route import check_route
from wallet.routing.announcements import sign_announcement
from wallet.routing.desk import REBUILD_MS, Outcome, RouteDesk, Surroundings, Wish
from wallet.routing.graph import Channel
from wallet.routing.learning import REST_MS
from wallet.routing.liquidity import HALF_LIFE_MS

HOUR_MS = 3_600_000
STRANGE = channel_id(99)


class Home:
    """Node 0 of a town, with its desk."""

    def __init__(self, town: Town, own: dict[int, int], receivable: dict[int, int] | None = None) -> None:
        self.now_ms = 1_000
        self.own = {channel_id(number): units for number, units in own.items()}
        self.comes = {channel_id(number): units for number, units in (receivable or {}).items()}
        self.graph = town.graph()
        for (number, direction), terms in town.terms.items():
            self.hear(number, town.channels[number][direction], terms)
        self.desk = RouteDesk(
            self.graph,
            Surroundings(NODES[0], lambda: self.own, lambda: self.comes, lambda: 5_000, lambda: self.now_ms),
        )

    def hear(self, number: int, node: int, terms: Edge, sequence: int = 1) -> None:
        told = announcement(number, node, terms, sequence)
        assert self.graph.accept(sign_announcement(KEYS[node], ZERO_HASH, told))

    def channels(self, wish: Wish) -> list[Hash]:
        return [leg.channel for leg in self.desk.find(wish).legs]


def wish(payee: int, amount: int, expiry_ms: int = 5_000 + HOUR_MS) -> Wish:
    return Wish(NODES[payee], amount, expiry_ms)


def two_ways() -> Home:
    """From 0 over 1 to 2, or over 1 and 3 at a fee."""
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10_000, Edge(), Edge())
    town.add(1, 3, 10_000, Edge())
    town.add(3, 2, 10_000, Edge(base=1))
    return Home(town, {0: 9_000})


DIRECT, DETOUR = [channel_id(0), channel_id(1)], [channel_id(0), channel_id(2), channel_id(3)]


def test_a_route_is_what_the_onion_is_built_for() -> None:
    town = Town()
    for number in range(3):
        town.add(number, number + 1, 10_000, Edge(base=2, ppm=10_000))
    found = Home(town, {0: 5_000}).desk.find(wish(3, 1_000))
    check_route(found.route)
    assert [hop.node for hop in found.route.hops] == NODES[1:4]
    assert [hop.amount for hop in found.route.hops] == [1_025, 1_012, 1_000]
    assert (found.route.group_id, found.route.expiry_ms) == (channel_id(0), 5_000 + HOUR_MS)
    assert found.fee == found.route.fee == 25 and 0.5 < found.chance < 1
    assert [found.leg_of(place) for place in (-1, 0, 1, 2)] == [*found.legs, None]


def test_parts_together_make_the_amount() -> None:
    town = Town()
    for number in (2, 3, 4):
        town.add(0, number, 10_000)
        town.add(number, 1, 1_000, Edge(base=1))
    parts = Home(town, {0: 10_000, 2: 10_000, 4: 10_000}).desk.split(wish(1, 1_500))
    assert len(parts) > 1 and sum(part.route.received for part in parts) == 1_500
    assert {part.route.expiry_ms for part in parts} == {5_000 + HOUR_MS}


# ------------------------------------------------------------------------------------------------------------ learning


@pytest.mark.parametrize("code", [Code.NO_LIQUIDITY, Code.NEXT_AWAY, Code.FEE_TOO_SMALL, None])
def test_what_refused_is_gone_around_until_it_is_forgotten(code: Code | None) -> None:
    home = two_ways()
    first = home.desk.find(wish(2, 4_000))
    assert [leg.channel for leg in first.legs] == DIRECT
    home.desk.learn(first, Outcome.refused(0, code))
    assert home.channels(wish(2, 4_000)) == DETOUR
    home.now_ms += 60 * HALF_LIFE_MS
    assert home.channels(wish(2, 4_000)) == DIRECT


def test_for_want_of_money_less_still_goes_there() -> None:
    home = two_ways()
    home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(0, Code.NO_LIQUIDITY))
    assert home.channels(wish(2, 10)) == DIRECT


def test_other_terms_end_a_rest() -> None:
    home = two_ways()
    home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(0, Code.FEE_TOO_SMALL))
    home.hear(1, 1, Edge(base=0, ppm=1), sequence=2)
    assert home.channels(wish(2, 4_000)) == DIRECT


def test_a_payees_refusal_bars_nothing_and_a_paid_way_is_known() -> None:
    home = two_ways()
    found = home.desk.find(wish(2, 4_000))
    home.desk.learn(found, Outcome.refused(1, Code.UNKNOWN_PAYMENT))
    better = home.desk.find(wish(2, 4_000))
    assert [leg.channel for leg in better.legs] == DIRECT and better.chance > found.chance
    home.desk.learn(better, Outcome.paid())
    assert home.desk.find(wish(2, 6_000)).chance < home.desk.find(wish(2, 4_000)).chance


def test_what_nobody_owns_up_to_is_gone_around() -> None:
    home = two_ways()
    home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.lost())
    assert home.channels(wish(2, 4_000)) == DETOUR


def test_our_own_channel_is_never_rested() -> None:
    home = two_ways()
    home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(-1, None))
    assert home.channels(wish(2, 4_000)) == DIRECT


# --------------------------------------------------------------------------------------------------------------- hints


def test_a_hint_leads_to_a_payee_that_nobody_has_shown() -> None:
    home = two_ways()
    hint = Hint(NODES[2], STRANGE, 7, 1_000)
    hinted = replace(wish(8, 1_000), hints=(hint,))
    with pytest.raises(Refused, match="no open channel that this wallet knows"):
        home.desk.find(wish(8, 1_000))
    found = home.desk.find(hinted)
    assert found.legs[-1].direction == (STRANGE, NODES[2]) and found.legs[-1].fee == 8
    assert [hop.node for hop in found.route.hops] == [NODES[1], NODES[2], NODES[8]]
    home.desk.learn(found, Outcome.refused(1, Code.NO_LIQUIDITY))
    with pytest.raises(Refused, match="did not forward lately"):
        home.desk.find(hinted)


def test_a_hint_gives_terms_that_nobody_announced() -> None:
    """And those that its sender announced itself count more."""
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10_000)
    home = Home(town, {0: 9_000})
    hinted = replace(wish(2, 1_000), hints=(Hint(NODES[1], channel_id(1), 7, 1_000),))
    with pytest.raises(Refused, match="no path"):
        home.desk.find(wish(2, 1_000))
    assert home.desk.find(hinted).fee == 8
    home.hear(1, 1, Edge(base=3))
    assert home.desk.find(hinted).fee == 3
    home.hear(1, 1, Edge(enabled=False), sequence=2)
    with pytest.raises(Refused, match="no path"):
        home.desk.find(hinted)


LIES = [
    Hint(NODES[7], STRANGE, 0, 0),  # of a node that nobody knows
    Hint(NODES[3], channel_id(1), 0, 0),  # of a channel of others
    Hint(NODES[1], channel_id(0), 0, 0),  # of a channel that does not lead there
    Hint(NODES[2], STRANGE, 2**53 - 1, 0),  # at a fee that nobody pays
]


@pytest.mark.parametrize("lie", LIES)
def test_hints_that_lie_lead_nowhere(lie: Hint) -> None:
    home = two_ways()
    with pytest.raises(Refused):
        home.desk.find(replace(wish(8, 1_000), hints=(lie,), max_fee=100))
    assert home.channels(replace(wish(2, 1_000), hints=(lie,))) == DIRECT


def test_our_own_hints_are_the_neighbours_that_can_pay_us_and_said_how() -> None:
    town = Town()
    for number in range(1, 8):
        town.add(0, number, 10_000, back=Edge(base=number, enabled=number != 7) if number != 6 else None)
    home = Home(town, {}, {number: 100 * (number + 1) for number in range(7)})
    assert [hint.base_fee for hint in home.desk.hints()] == [5, 4, 3, 2], "6 never said, 7 forwards nothing"
    assert home.desk.hints()[0] == Hint(NODES[5], channel_id(4), 5, 0)


# ----------------------------------------------------------------------------------------------- what the graph becomes


def test_the_graph_is_followed() -> None:
    home = two_ways()
    assert home.channels(wish(2, 100)) == DIRECT
    home.hear(1, 1, Edge(base=50), sequence=2)
    assert home.channels(wish(2, 100)) == DETOUR
    home.graph.close(channel_id(3))
    assert home.channels(wish(2, 100)) == DIRECT
    home.graph.show(Channel(STRANGE, (NODES[0], NODES[2]), 500))
    home.own[STRANGE] = 400
    assert home.channels(wish(2, 100)) == [STRANGE]


def test_it_is_not_compiled_for_each_channel_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    from wallet.routing import network

    compiled: list[int] = []

    class Counted(network.Network):
        def __init__(self, *args: Any) -> None:
            compiled.append(1)
            super().__init__(*args)

    monkeypatch.setattr(network, "Network", Counted)
    town = Town()
    town.add(0, 1, 10_000)
    town.add(1, 2, 10_000, Edge())
    for _ in range(400):
        town.add(3, 4, 10)
    home = Home(town, {0: 9_000})
    home.desk.find(wish(2, 100))
    for number in range(500, 504):
        home.graph.show(Channel(channel_id(number), (NODES[3], NODES[5]), 10))
        home.desk.find(wish(2, 100))
    assert len(compiled) == 1
    home.graph.show(Channel(channel_id(504), (NODES[3], NODES[5]), 10))
    home.desk.find(wish(2, 100))
    assert len(compiled) == 2, "more than one in a hundred is missing"
    home.graph.show(Channel(channel_id(505), (NODES[3], NODES[5]), 10))
    home.now_ms += REBUILD_MS
    home.desk.find(wish(2, 100))
    assert len(compiled) == 3, "one is missing for long"


def test_a_circle_leaves_and_comes_back_by_given_channels() -> None:
    town = Town()
    for number in range(3):
        town.add(number, (number + 1) % 3, 10_000, Edge(base=1), Edge(base=1))
    home = Home(town, {0: 5_000, 2: 5_000})
    found = home.desk.find(replace(wish(0, 1_000), first=channel_id(0), last=channel_id(2)))
    check_route(found.route)
    assert [hop.node for hop in found.route.hops] == [NODES[1], NODES[2], NODES[0]] and found.fee == 2


# --------------------------------------------------------------------------------------------------------- bottlenecks


BOTTLENECKS: dict[str, tuple[dict[str, object], dict[int, int], list[str]]] = {
    "ours": ({"amount": 600}, {0: 500}, ["600 units", "the most is 500 units", "top up"]),
    "ours in parts": ({"amount": 1_300}, {0: 500, 2: 700}, ["1300 units", "together can send 1200 units", "top up"]),
    "none of ours": ({}, {}, ["no channel that is open and connected"]),
    "the fee": ({"max_fee": 1}, {0: 500}, ["a fee of 2 units", "at most 1 units", "higher fee"]),
    "the margin": ({"expiry_ms": 5_500}, {0: 500}, ["the 500 ms that are left", "expire later"]),
    "the network": ({"amount": 450}, {0: 500}, ["no path carries 450 units", "393 units would pass", "pay less"]),
    "no path": ({"payee": NODES[3]}, {0: 500}, ["no path", "open a channel"]),
}


@pytest.mark.parametrize("name", BOTTLENECKS)
@pytest.mark.parametrize("in_parts", [False, True])
def test_a_refusal_names_the_bottleneck_and_the_remedy(name: str, in_parts: bool) -> None:
    change, own, words = BOTTLENECKS[name]
    town = Town()
    town.add(0, 1, 1_000)
    town.add(1, 2, 1_000, Edge(base=2, most=400, margin_ms=1_000))
    town.add(0, 4, 1_000)
    town.add(5, 3, 1_000, Edge())
    home = Home(town, own)
    asked = replace(wish(2, 100), **change)  # type: ignore[arg-type]
    if in_parts and name in ("ours", "the network"):
        return  # a sum of channels, or of parts, is another matter
    if not in_parts and name == "ours in parts":
        return
    with pytest.raises(Refused) as refusal:
        (home.desk.split if in_parts else home.desk.find)(asked)
    assert refusal.value.code == "no_route"
    for text in words:
        assert text in refusal.value.message


def test_without_a_channel_nothing_is_looked_for() -> None:
    home = Home(Town(), {})
    for payee in (1, 2):
        with pytest.raises(Refused, match="this wallet has no channel") as refusal:
            home.desk.find(wish(payee, 100))
        assert refusal.value.code == "no_route" and home.desk._network is None


def test_who_rests_is_named_as_the_reason() -> None:
    home = two_ways()
    for _ in range(2):
        home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(0, Code.NEXT_AWAY))
    with pytest.raises(Refused, match="did not forward lately"):
        home.desk.find(wish(2, 4_000))
    home.now_ms += 2 * REST_MS
    assert home.channels(wish(2, 4_000)) == DIRECT


def test_money_that_was_not_there_is_named_as_the_reason() -> None:
    home = two_ways()
    for _ in range(2):
        home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(0, Code.NEXT_AWAY))
    home.now_ms += REST_MS
    home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(0, Code.NO_LIQUIDITY))
    home.desk.learn(home.desk.find(wish(2, 4_000)), Outcome.refused(1, Code.NO_LIQUIDITY))
    with pytest.raises(Refused, match="too little money"):
        home.desk.find(wish(2, 9_000))
