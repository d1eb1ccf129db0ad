"""The cheapest path for one amount, where a small chance has its price.

What is minimised is `cost = fees + aversion x -log(chance)`; `aversion` (minor units) is what the payer would pay for
a chance that is e times as good. The chance of a path is the product over its hops of the chance that the hop's sender
has the money (`wallet.routing.liquidity`) and that its receiver answers at all (:data:`ANSWERS`), which makes many
hops dear. So no other path pays less for the same chance.

*Limits hold exactly, and so does the minimum.* Fees make amounts grow from the payee backwards, so what a hop carries
depends on the hops behind it. First a library finds what it costs at least to come from the payer to each node, as if
each hop carried the bare amount: everything grows with the amount, so that is a bound from below. Then the path is
built from the payee backwards with true amounts, the most promising first (A*, Hart, Nilsson and Raphael 1968), that
bound being its heuristic. A node is visited again only with less to carry, or fewer hops. A hop is used only if the
bare amount reaches its minimum. All hops have one expiry (rule 22), so there are none to add up.

Source: docs/design/groups.md, rules 21 to 23; decision 039. Pickhardt and Richter: Optimally Reliable & Cheap Payment
Flows on the Lightning Network (2021), section 3 (-log of the chance as a cost beside the fee).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count

import numpy as np

from layer1.errors import Refused, check
from layer1.ledger.genesis import MAX_MONEY
from wallet.invoices.invoice import Hint
from wallet.routing.announcements import fee_units
from wallet.routing.liquidity import chance
from wallet.routing.network import Network
from wallet.routing.paths import Direction, Leg, Path, Query
from wallet.routing.prices import ANSWERS, Bounds, Prices

MAX_VISITS = 20_000
"""Steps in building one path from the payee backwards; beyond it the limits leave no route worth looking for."""
FEW_VISITS = 500
"""After so many with bounds that were found for another part, it is worth while to find better ones."""


class _GaveUpError(Exception):
    """Too many visits."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A path from here to the payee."""

    node: int
    need: int
    """Minor units that have to arrive here."""
    cost: float
    legs: tuple[Leg, ...]


@dataclass(order=True, slots=True)
class _Waiting:
    """A path, and the hops that may come in front of it; without any, it is itself to be looked at."""

    least: float
    """What a whole path costs at least."""
    number: int
    """Decides between equals, so that a query has one answer."""
    step: _Step = field(compare=False)
    edges: list[tuple[float, int]] = field(default_factory=list, compare=False)
    """Cost at least, and edge; the cheapest last."""


def find_path(network: Network, query: Query) -> Path:
    """The cheapest path.

    Raises:
        Refused: ``bad_amount``, ``unknown_node``, ``bad_channel`` or ``no_route``, whose reason
            `wallet.routing.bottleneck` finds.
    """
    return find_part(Prices(network, query), query.amount, query.max_fee, {})


def find_part(prices: Prices, amount: int, max_fee: int, in_flight: Mapping[Direction, int]) -> Path:
    """The cheapest path for one part of what `prices` were made for.

    Args:
        prices: Of the payment.
        amount: Minor units that arrive.
        max_fee: Likewise; of this part.
        in_flight: What its other parts take, besides what `prices` know.

    Raises:
        Refused: ``bad_amount`` or ``no_route``.
    """
    check(1 <= amount <= MAX_MONEY, "bad_amount", f"a payment of {amount} units; the least is 1")
    search = _Search(prices, amount, max_fee, prices.taken(in_flight))
    bounds, fresh = prices.bounds(amount)
    try:
        found = search.build(bounds, MAX_VISITS if fresh and not in_flight else FEW_VISITS)
    except _GaveUpError:
        found = search.build_once_more()
    if found is None:
        query = prices.query
        raise Refused("no_route", f"no path of at most {query.max_hops} hops carries {amount} units")
    return Path(found.legs, amount, found.cost)


class _Search:
    """For one part."""

    def __init__(self, prices: Prices, amount: int, max_fee: int, taken: Mapping[int, int]) -> None:
        self._prices, self._network, self._query = prices, prices.network, prices.query
        self._amount, self._max_fee, self._taken = amount, max_fee, taken

    def build_once_more(self) -> _Step | None:
        """With bounds that know what the other parts take."""
        try:
            return self.build(self._prices.bounds_with(self._amount, self._taken), MAX_VISITS)
        except _GaveUpError:
            return None

    def _starts(self) -> list[_Step]:
        """Where to begin, backwards: at the payee, or in front of it by a hint."""
        prices, amount = self._prices, self._amount
        if prices.last is not None:
            assert prices.target is not None, "the channel to arrive by is one of its"
            last = self._extended(_Step(prices.target, amount, 0.0, ()), prices.last)
            return [] if last is None else [last]
        there = [] if prices.target is None else [_Step(prices.target, amount, 0.0, ())]
        return there + [step for hint in prices.strangers if (step := self._hinted(hint)) is not None]

    def _hinted(self, hint: Hint) -> _Step | None:
        """The payee says that it is reached over this channel, of which nobody else has shown anything."""
        query, amount = self._query, self._amount
        fee = fee_units(hint.base_fee, hint.fee_ppm, amount)
        if (hint.group_id, hint.node) in query.avoid or hint.node == query.source or fee > self._max_fee:
            return None
        leg = Leg(hint.group_id, hint.node, query.target, amount, fee, ANSWERS)
        return _Step(self._network.number[hint.node], amount + fee, fee - query.price * math.log(ANSWERS), (leg,))

    def build(self, bounds: Bounds, visits: int) -> _Step | None:
        """From the payee backwards with true amounts; the first to reach the payer is the cheapest.

        What waits is a path that is to be looked at, or one more hop in front of it that is to be priced: those come
        in the order of what they cost at least, for a node may have thousands.

        Raises:
            _GaveUpError: After so many visits.
        """
        order, bound = count(), bounds[1]
        first, goal = self._prices.first, self._prices.goal
        waiting = [_Waiting(start.cost, next(order), start) for start in self._starts()]
        heapq.heapify(waiting)
        seen: dict[int, list[tuple[int, int]]] = {}
        for _ in range(visits):
            if not waiting:
                return None
            item = heapq.heappop(waiting)
            step = item.step
            if item.edges:
                if (further := self._extended(step, item.edges[-1][1])) is not None:
                    least = further.cost + float(bound[further.node])
                    heapq.heappush(waiting, _Waiting(least, next(order), further))
                item.edges.pop()
            elif step.node == goal and (step.legs or first is not None):
                if (done := step if first is None else self._extended(step, first)) is not None:
                    return done
                continue
            elif self._is_new(seen.setdefault(step.node, []), step):
                item = _Waiting(0.0, 0, step, self._promising(step, bounds))
            else:
                continue
            if item.edges:
                heapq.heappush(waiting, _Waiting(item.edges[-1][0], next(order), step, item.edges))
        raise _GaveUpError

    @staticmethod
    def _is_new(before: list[tuple[int, int]], step: _Step) -> bool:
        """Whether no path was at this node with no more to carry and no more hops, at less cost."""
        mine = (step.need, len(step.legs))
        if any(need <= mine[0] and hops <= mine[1] for need, hops in before):
            return False
        before.append(mine)
        return True

    def _promising(self, step: _Step, bounds: Bounds) -> list[tuple[float, int]]:
        """Edges into a node that may carry its need, and what a path over each costs at least; the dearest first."""
        (weights, bound), edges = bounds, self._network.incoming(step.node)
        costs = step.cost + weights[edges] + bound[self._network.sender[edges]]
        possible = np.flatnonzero(np.isfinite(costs) & (self._prices.most[edges] >= step.need))
        ordered = possible[np.argsort(-costs[possible], kind="stable")]
        return list(zip(costs[ordered].tolist(), edges[ordered].tolist(), strict=True))

    def _extended(self, step: _Step, edge: int) -> _Step | None:
        """The path with one hop more in front; None if that breaks a limit."""
        prices, need, taken = self._prices, step.need, self._taken.get(edge, 0)
        low, high = max(prices.low[edge] - taken, 0.0), max(prices.high[edge] - taken, 0.0)
        likely = chance(low, high, need) * ANSWERS
        if not (prices.least[edge] <= self._amount and need <= prices.most[edge] and likely > 0):
            return None
        fee = fee_units(int(prices.base[edge]), int(prices.ppm[edge]), need)
        if need + fee - self._amount > self._max_fee or len(step.legs) == self._query.max_hops:
            return None
        nodes, ids = self._network.nodes, self._network.channel_of(edge).id
        sender, receiver = int(self._network.sender[edge]), int(self._network.receiver[edge])
        leg = Leg(ids, nodes[sender], nodes[receiver], need, fee, float(likely))
        cost = step.cost + fee - self._query.price * math.log(likely)
        return _Step(sender, need + fee, cost, (leg, *step.legs))
