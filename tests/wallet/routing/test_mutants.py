"""Broken routing. Each must be noticed by the tests here; a rule whose breach goes unnoticed is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from layer1.errors import Refused, RemoteError
from tests.wallet.routing import test_desk as t_desk
from tests.wallet.routing import test_gossip as t_gossip
from tests.wallet.routing import test_learning as t_learning
from tests.wallet.routing import test_search as t_search
from tests.wallet.routing import test_splitting as t_splitting
from wallet.routing import desk, graph, learning, prices, search, splitting
from wallet.routing.announcements import topic_of
from wallet.routing.gossip import ALLOWANCE, Spreading
from wallet.routing.graph import ChannelGraph
from wallet.routing.liquidity import Bounds
from wallet.routing.network import Network

Test = Callable[..., None]
Change = Callable[[Any], Any]


def any_path(_: Any) -> Any:
    """Only money counts: many hops are as good as few."""
    return lambda low, high, amount: 1.0


MUTANTS: dict[str, tuple[Any, str, Change, Test]] = {
    "rounds_fees_down": (
        search, "fee_units", lambda _: lambda base, ppm, amount: base + amount * ppm // 1_000_000,
        t_search.test_no_path_with_as_good_a_chance_is_cheaper,
    ),
    "believes_every_balance": (search, "chance", any_path, t_search.test_no_path_with_as_good_a_chance_is_cheaper),
    "bound_from_above": (
        prices.Prices, "_distances", lambda original: lambda self, weights: original(self, weights) * 3,
        t_search.test_no_path_with_as_good_a_chance_is_cheaper,
    ),
    "bounds_of_a_larger_amount": (
        prices.Prices, "bounds_with", lambda original: lambda self, amount, taken: original(self, amount + 30, taken),
        lambda: _with_patch(t_splitting.test_shared_prices_find_for_each_part_what_its_own_would),
    ),
    "gives_up_early": (
        search._Search, "build_once_more", lambda _: lambda self: None,
        lambda: _with_patch(t_splitting.test_shared_prices_find_for_each_part_what_its_own_would),
    ),
    "visits_a_node_once": (
        search._Search, "_is_new",
        lambda _: staticmethod(lambda before, step: not before and not before.append((0, 0))),
        t_search.test_a_dearer_end_that_leaves_less_to_carry_is_tried_too,
    ),
    "forgets_the_minimum": (
        Network, "announce", lambda original: lambda self, terms: original(self, structs.replace(terms, min_amount=1)),
        t_search.test_no_path_with_as_good_a_chance_is_cheaper,
    ),
    "forgets_the_margin": (
        Network, "announce", lambda original: lambda self, terms: original(self, structs.replace(terms, margin_ms=0)),
        t_search.test_no_path_with_as_good_a_chance_is_cheaper,
    ),
    "forgets_that_it_is_disabled": (
        Network, "announce", lambda original: lambda self, terms: original(self, structs.replace(terms, enabled=True)),
        t_search.test_no_path_with_as_good_a_chance_is_cheaper,
    ),
    "goes_through_itself": (
        prices.Prices, "_bar", lambda original: lambda self: (original(self), self.barred.fill(False))[1],
        lambda: t_search.test_a_circle_through_given_channels(0, None, (0, 1, 3), 6),
    ),
    "parts_know_nothing_of_each_other": (
        splitting, "in_flight", lambda _: lambda before, plan: {},
        t_splitting.test_what_no_path_carries_goes_in_parts,
    ),
    "each_part_has_the_whole_fee": (
        splitting, "_halves",
        lambda original: lambda prices, amount, fee, taken, most: original(prices, amount, 2**53, taken, most),
        t_splitting.test_the_fee_limit_is_that_of_all_parts,
    ),
    "believes_any_hint": (
        prices.Prices, "_put", lambda _: lambda self, hint: hint.node not in self.network.number,
        lambda: t_desk.test_hints_that_lie_lead_nowhere(t_desk.LIES[1]),
    ),
    "rests_nobody": (
        learning.Learnt, "rest", lambda _: lambda *args: None,
        lambda: t_desk.test_what_refused_is_gone_around_until_it_is_forgotten(None),
    ),
    "blames_the_wrong_hop": (
        desk, "_tries",
        lambda original: lambda found, outcome: original(found, replace(outcome, place=(outcome.place or 1) - 1)),
        t_desk.test_a_payees_refusal_bars_nothing_and_a_paid_way_is_known,
    ),
    "never_compiles_again": (
        desk.RouteDesk, "_is_stale", lambda _: lambda *args: False, t_desk.test_the_graph_is_followed,
    ),
    "overlooks_what_is_announced": (
        ChannelGraph, "_note", lambda _: lambda *args: None, t_desk.test_the_graph_is_followed,
    ),
    "both_directions_are_one": (
        Bounds, "flipped", lambda _: lambda self: self, t_learning.test_lessons_condition_the_chance,
    ),
    "never_forgets": (
        Bounds, "at", lambda _: lambda self, now_ms, half_life_ms=0: self,
        t_learning.test_what_was_learnt_is_forgotten_by_halves,
    ),
    "learns_nothing_of_hops_that_worked": (
        learning.Learnt, "paid", lambda _: lambda *args: None,
        t_learning.test_a_retry_goes_another_way_and_comes_back_later,
    ),
    "checks_no_signature": (graph, "check_signature", lambda _: lambda *args: None, t_gossip.test_hostile_gossip),
    "hears_those_who_are_no_members": (
        ChannelGraph, "_check_member", lambda _: lambda *args: None, t_gossip.test_only_what_layer_1_shows_is_kept,
    ),
    "passes_everything_on_at_once": (
        Spreading, "_enqueue",
        lambda _: lambda self, topic, origin, now_ms: self._due.__setitem__(topic, (now_ms, origin)),
        t_gossip.test_who_announces_without_end_is_passed_on_at_a_fixed_pace,
    ),
    "an_older_one_counts": (
        ChannelGraph, "accept",
        lambda original: lambda self, told: (self._newest.pop(topic_of(told), None), original(self, told))[1],
        lambda: _with_patch(t_gossip.test_the_newest_counts_and_is_checked_once),
    ),
    "tells_it_to_whom_it_has_it_from": (
        Spreading, "_enqueue", lambda original: lambda self, topic, origin, now_ms: original(self, topic, None, now_ms),
        t_gossip.test_what_is_announced_reaches_everybody_once,
    ),
    "tells_everybody_everything": (
        Spreading, "connect",
        lambda original: lambda self, peer, at: [*original(self, peer, at), *self._show_ours(peer, self._peers[peer])],
        t_gossip.test_who_does_not_follow_hears_of_its_own_channels_alone,
    ),
    "listens_without_end": (
        Spreading, "_spend", lambda _: staticmethod(lambda known, wanted, now_ms: min(wanted, ALLOWANCE)),
        lambda: _with_patch(t_gossip.test_beyond_its_allowance_a_peer_is_not_read),
    ),
}  # fmt: skip


def _with_patch(test: Test) -> None:
    with pytest.MonkeyPatch.context() as patch:
        test(patch)


@pytest.mark.slow
@pytest.mark.parametrize("name", MUTANTS)
def test_dies(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, what, change, test = MUTANTS[name]
    test()  # of the right one, it says nothing
    monkeypatch.setattr(where, what, change(getattr(where, what)))
    with pytest.raises((AssertionError, Refused, RemoteError, pytest.fail.Exception)):
        test()
