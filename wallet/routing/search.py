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
from dataclasses import dataclass, field
from itertools import count

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import dijkstra  # type: ignore[import-untyped]

from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import Refused, check
from layer1.ledger.genesis import MAX_MONEY
from wallet.invoices.invoice import Hint
from wallet.routing.announcements import fee_units
from wallet.routing.liquidity import chance
from wallet.routing.network import Floats, Network
from wallet.routing.paths import Leg, Path, Query

ANSWERS = 0.99
"""Chance that the receiver of a hop is there and answers."""
MAX_VISITS = 20_000
"""Steps in building one path from the payee backwards; beyond it the limits leave no route worth looking for."""
SLACK = 1e-9
"""Relative: sums in another order differ by less, and a bound from below must be one."""


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
    """The cheapest route.

    Raises:
        Refused: ``bad_amount``, ``unknown_node``, ``bad_channel`` or ``no_route``, whose reason
            `wallet.routing.bottleneck` finds.
    """
    return _Search(network, query).run()


class _Search:
    """One query."""

    def __init__(self, network: Network, query: Query) -> None:
        self._network, self._query = network, query
        check(1 <= query.amount <= MAX_MONEY, "bad_amount", f"a payment of {query.amount} units; the least is 1")
        self._source = self._node(query.source)
        self._target = None if query.hints and query.target not in network.number else self._node(query.target)
        self._first = self._given(query.first, query.source)
        self._last = self._given(query.last, query.target, arriving=True)
        circular = self._source == self._target
        check(
            not circular or self._first is not None or self._last is not None,
            "bad_channel",
            "a payment to oneself needs the channel to leave by, or the one to arrive by",
        )
        check(
            self._first is None or query.first != query.last,
            "bad_channel",
            "one cannot leave and arrive by one channel",
        )
        self._goal = self._source if self._first is None else int(network.receiver[self._first])
        self._prepare()

    def _node(self, node: PublicKey) -> int:
        number = self._network.number.get(node)
        if number is None:
            raise Refused(
                "unknown_node",
                f"{format_address(node)} has no open channel that this wallet knows of: ask for an invoice with hints, "
                "open a channel with it, or pay on layer 1",
            )
        return number

    def _given(self, channel: Hash | None, end: PublicKey, *, arriving: bool = False) -> int | None:
        """The edge of a channel that the query names."""
        if channel is None:
            return None
        edge = self._network.edge(channel, end)
        check(edge is not None, "bad_channel", f"{format_address(end)} has no open channel {channel.hex()[:12]}")
        assert edge is not None
        return self._network.reverse(edge) if arriving else edge

    def _prepare(self) -> None:
        """Per edge: what it charges, what it takes, what its sender may have."""
        network, query = self._network, self._query
        self._low, self._high = network.bounds(query.now_ms)
        self._most = np.where(network.margin <= query.life_ms, network.most, 0.0)
        self._base, self._ppm, self._least = network.base, network.ppm, network.least
        mine = slice(network.out[self._source], network.out[self._source + 1])
        self._base, self._ppm, self._least = self._base.copy(), self._ppm.copy(), self._least.copy()
        self._base[mine], self._ppm[mine], self._least[mine], self._most[mine] = 0.0, 0.0, 1.0, 0.0
        for channel, units in query.own.items():
            if (edge := network.edge(channel, query.source)) is not None:
                self._low[edge] = self._high[edge] = self._most[edge] = units
        for (channel, sender), units in query.in_flight.items():
            if (edge := network.edge(channel, sender)) is not None:  # its largest lock stays what it is
                for bound in (self._low, self._high):
                    bound[edge] = max(bound[edge] - units, 0.0)
        for channel, sender in query.avoid:
            if (edge := network.edge(channel, sender)) is not None:
                self._most[edge] = 0.0

        self._strangers = [hint for hint in query.hints if not self._put(hint)]
        """Hints of channels that nobody has shown: they are in front of the payee, and lead nowhere else."""
        self._bar()

    def _put(self, hint: Hint) -> bool:
        """Put the payee's word into its place, if its channel is known; what was announced of it stays as it is."""
        network, query = self._network, self._query
        edge = network.edge(hint.group_id, hint.node)
        if edge is None or int(network.receiver[edge]) != self._target:
            return network.has(hint.group_id) or hint.node not in network.number
        if not network.heard[edge] and (hint.group_id, hint.node) not in query.avoid:
            self._base[edge], self._ppm[edge] = hint.base_fee, hint.fee_ppm
            self._most[edge] = network.channel_of(edge).capacity
        return True

    def _bar(self) -> None:
        """Edges that would lead through the payer or the payee on the way."""
        network = self._network
        self._barred = np.zeros(len(self._most), np.bool_)
        if self._first is not None:
            self._barred[network.out[self._source] : network.out[self._source + 1]] = True
            self._barred[network.reverse(self._first)] = True
        if self._target not in (None, self._source):
            self._barred[network.out[self._target] : network.out[self._target + 1]] = True
        if self._last is not None:
            self._barred[network.reverse(self._last)] = True

    def run(self) -> Path:
        weights = self._weights()
        found = self._build(self._starts(), weights, self._bounds(weights))
        if found is None:
            raise self._nothing()
        return Path(found.legs, self._query.amount, found.cost)

    def _starts(self) -> list[_Step]:
        """Where to begin, backwards: at the payee, or in front of it by a hint."""
        query = self._query
        if self._last is not None:
            assert self._target is not None, "the channel to arrive by is one of its"
            last = self._extended(_Step(self._target, query.amount, 0.0, ()), self._last)
            return [] if last is None else [last]
        there = [] if self._target is None else [_Step(self._target, query.amount, 0.0, ())]
        return there + [step for hint in self._strangers if (step := self._hinted(hint)) is not None]

    def _hinted(self, hint: Hint) -> _Step | None:
        """The payee says that it is reached over this channel, of which nobody else has shown anything."""
        query, amount = self._query, self._query.amount
        fee = fee_units(hint.base_fee, hint.fee_ppm, amount)
        if (hint.group_id, hint.node) in query.avoid or hint.node == query.source or fee > query.max_fee:
            return None
        leg = Leg(hint.group_id, hint.node, query.target, amount, fee, ANSWERS)
        return _Step(self._network.number[hint.node], amount + fee, fee - query.price * math.log(ANSWERS), (leg,))

    def _bounds(self, weights: Floats) -> Floats:
        """Per node what it costs at least to come there from where the search ends."""
        network = self._network
        through = weights.copy()
        through[network.incoming(self._source)] = np.inf  # no path leads through the payer
        size = len(network.nodes)
        shape = np.minimum.reduceat(through, network.pair), network.pair_receiver, network.pair_out
        distances: Floats = dijkstra(csr_array(shape, shape=(size, size)), indices=self._goal)
        return distances * (1 - SLACK)

    def _weights(self) -> Floats:
        """Per edge what it costs at least, to send the bare amount; infinite if it cannot be."""
        amount = float(self._query.amount)
        chances = np.clip((self._high + 1 - amount) / (self._high + 1 - self._low), 0.0, 1.0)
        usable = ~self._barred & (self._least <= amount) & (amount <= self._most) & (chances > 0)
        risk = np.log(chances, out=np.zeros_like(chances), where=usable) + math.log(ANSWERS)
        fees = self._base + np.ceil(self._ppm * (amount / 1e6) * (1 - SLACK))
        weights: Floats = np.where(usable, fees - self._query.price * risk, np.inf)
        return weights

    def _build(self, starts: list[_Step], weights: Floats, bound: Floats) -> _Step | None:
        """From the payee backwards with true amounts; the first to reach the payer is the cheapest.

        What waits is a path that is to be looked at, or one more hop in front of it that is to be priced: those come
        in the order of what they cost at least, for a node may have thousands.
        """
        order = count()
        waiting = [_Waiting(start.cost, next(order), start) for start in starts]
        heapq.heapify(waiting)
        seen: dict[int, list[tuple[int, int]]] = {}
        for _ in range(MAX_VISITS):
            if not waiting:
                return None
            item = heapq.heappop(waiting)
            step = item.step
            if item.edges:
                if (further := self._extended(step, item.edges[-1][1])) is not None:
                    least = further.cost + float(bound[further.node])
                    heapq.heappush(waiting, _Waiting(least, next(order), further))
                item.edges.pop()
            elif step.node == self._goal and (step.legs or self._first is not None):
                if (done := step if self._first is None else self._extended(step, self._first)) is not None:
                    return done
                continue
            elif self._is_new(seen.setdefault(step.node, []), step):
                item = _Waiting(0.0, 0, step, self._promising(step, weights, bound))
            else:
                continue
            if item.edges:
                heapq.heappush(waiting, _Waiting(item.edges[-1][0], next(order), step, item.edges))
        return None

    @staticmethod
    def _is_new(before: list[tuple[int, int]], step: _Step) -> bool:
        """Whether no path was at this node with no more to carry and no more hops, at less cost."""
        mine = (step.need, len(step.legs))
        if any(need <= mine[0] and hops <= mine[1] for need, hops in before):
            return False
        before.append(mine)
        return True

    def _promising(self, step: _Step, weights: Floats, bound: Floats) -> list[tuple[float, int]]:
        """Edges into a node that may carry its need, and what a path over each costs at least; the dearest first."""
        edges = self._network.incoming(step.node)
        costs = step.cost + weights[edges] + bound[self._network.sender[edges]]
        possible = np.flatnonzero(np.isfinite(costs) & (self._most[edges] >= step.need))
        ordered = possible[np.argsort(-costs[possible], kind="stable")]
        return list(zip(costs[ordered].tolist(), edges[ordered].tolist(), strict=True))

    def _extended(self, step: _Step, edge: int) -> _Step | None:
        """The path with one hop more in front; None if that breaks a limit."""
        query, need = self._query, step.need
        likely = chance(self._low[edge], self._high[edge], need) * ANSWERS
        if not (self._least[edge] <= query.amount and need <= self._most[edge] and likely > 0):
            return None
        fee = fee_units(int(self._base[edge]), int(self._ppm[edge]), need)
        if need + fee - query.amount > query.max_fee or len(step.legs) == query.max_hops:
            return None
        nodes, ids = self._network.nodes, self._network.channel_of(edge).id
        sender, receiver = int(self._network.sender[edge]), int(self._network.receiver[edge])
        leg = Leg(ids, nodes[sender], nodes[receiver], need, fee, float(likely))
        cost = step.cost + fee - query.price * math.log(likely)
        return _Step(sender, need + fee, cost, (leg, *step.legs))

    def _nothing(self) -> Refused:
        query = self._query
        return Refused("no_route", f"no path of at most {query.max_hops} hops carries {query.amount} units")
