"""What every hop of a network costs one payer now, and what it costs at least to come from the payer anywhere.

All parts of a payment are looked for with the same prices: a part changes what a few channels can still carry, and that
is told to each search. The bounds from below are found for an amount by one search of a library over the whole network,
and serve all amounts that are not smaller, since everything grows with the amount, and with what is in flight.

Source: decision 039; `wallet.routing.search` uses them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import dijkstra  # type: ignore[import-untyped]

from layer1.crypto import Hash, PublicKey, format_address
from layer1.errors import Refused, check
from wallet.invoices.invoice import Hint
from wallet.routing.network import Floats, Network
from wallet.routing.paths import Direction, Query

ANSWERS = 0.99
"""Chance that the receiver of a hop is there and answers."""
SLACK = 1e-9
"""Relative: sums in another order differ by less, and a bound from below must be one."""
NEAR = 2
"""Minor units: bounds for an amount serve those that are larger by so much. Halves of one amount differ by one."""

Bounds = tuple[Floats, Floats]
"""Per edge what it costs at least; per node what it costs at least to come there from where the search ends."""


class Prices:
    """Of one query's network, payer, payee and conditions; for any amount, and whatever else is in flight."""

    def __init__(self, network: Network, query: Query) -> None:
        """Price all edges.

        Raises:
            Refused: ``unknown_node`` or ``bad_channel``.
        """
        self.network, self.query = network, query
        self.source = self._node(query.source)
        self.target = None if query.hints and query.target not in network.number else self._node(query.target)
        self.first = self._given(query.first, query.source)
        self.last = self._given(query.last, query.target, arriving=True)
        circular = self.source == self.target
        check(
            not circular or self.first is not None or self.last is not None,
            "bad_channel",
            "a payment to oneself needs the channel to leave by, or the one to arrive by",
        )
        check(
            self.first is None or query.first != query.last,
            "bad_channel",
            "one cannot leave and arrive by one channel",
        )
        self.goal = self.source if self.first is None else int(network.receiver[self.first])
        self._price()
        self.strangers = [hint for hint in query.hints if not self._put(hint)]
        """Hints of channels that nobody has shown: they are in front of the payee, and lead nowhere else."""
        self._bar()
        self._known: dict[int, Bounds] = {}

    def _node(self, node: PublicKey) -> int:
        number = self.network.number.get(node)
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
        edge = self.network.edge(channel, end)
        check(edge is not None, "bad_channel", f"{format_address(end)} has no open channel {channel.hex()[:12]}")
        assert edge is not None
        return self.network.reverse(edge) if arriving else edge

    def _price(self) -> None:
        """Per edge: what it charges, what it takes, what its sender may have."""
        network, query = self.network, self.query
        self.low, self.high = network.bounds(query.now_ms)
        self.most = np.where(network.margin <= query.life_ms, network.most, 0.0)
        self.base, self.ppm, self.least = network.base.copy(), network.ppm.copy(), network.least.copy()
        mine = slice(network.out[self.source], network.out[self.source + 1])
        self.base[mine], self.ppm[mine], self.least[mine], self.most[mine] = 0.0, 0.0, 1.0, 0.0
        for channel, units in query.own.items():
            if (edge := network.edge(channel, query.source)) is not None:
                self.low[edge] = self.high[edge] = self.most[edge] = units
        for edge, units in self.taken(query.in_flight).items():  # its largest lock stays what it is
            for bound in (self.low, self.high):
                bound[edge] = max(bound[edge] - units, 0.0)
        for channel, sender in query.avoid:
            if (edge := network.edge(channel, sender)) is not None:
                self.most[edge] = 0.0

    def _put(self, hint: Hint) -> bool:
        """Put the payee's word into its place, if its channel is known; what was announced of it stays as it is."""
        network, query = self.network, self.query
        edge = network.edge(hint.group_id, hint.node)
        if edge is None or int(network.receiver[edge]) != self.target:
            return network.has(hint.group_id) or hint.node not in network.number
        if not network.heard[edge] and (hint.group_id, hint.node) not in query.avoid:
            self.base[edge], self.ppm[edge] = hint.base_fee, hint.fee_ppm
            self.most[edge] = network.channel_of(edge).capacity
        return True

    def _bar(self) -> None:
        """Edges that would lead through the payer or the payee on the way."""
        network = self.network
        self.barred = np.zeros(len(self.most), np.bool_)
        if self.first is not None:
            self.barred[network.out[self.source] : network.out[self.source + 1]] = True
            self.barred[network.reverse(self.first)] = True
        if self.target not in (None, self.source):
            self.barred[network.out[self.target] : network.out[self.target + 1]] = True
        if self.last is not None:
            self.barred[network.reverse(self.last)] = True

    def taken(self, in_flight: Mapping[Direction, int]) -> dict[int, int]:
        """What is in flight, by edge."""
        found = ((self.network.edge(*way), units) for way, units in in_flight.items())
        return {edge: units for edge, units in found if edge is not None}

    def room(self, in_flight: Mapping[Direction, int]) -> float:
        """No more than so much leaves the payer and reaches the payee, however it is divided; minor units."""
        network, taken = self.network, self.taken(in_flight)
        leaving = np.arange(network.out[self.source], network.out[self.source + 1])
        ends = [leaving if self.first is None else np.array([self.first])]
        if self.target is not None and not self.strangers:
            ends.append(network.incoming(self.target) if self.last is None else np.array([self.last]))
        usable = [edges[self.most[edges] > 0] for edges in ends]
        return min(float(self.high[edges].sum()) - _of(taken, edges.tolist()) for edges in usable)

    def bounds(self, amount: int) -> tuple[Bounds, bool]:
        """Bounds for an amount, and whether they were found just for it: else they may be lower than need be."""
        for known, bounds in self._known.items():
            if known <= amount <= known + NEAR:
                return bounds, False
        known = max(amount - NEAR, 1)
        found = self._known[known] = self.bounds_with(known, {})
        return found, True

    def bounds_with(self, amount: int, taken: Mapping[int, int]) -> Bounds:
        """Bounds for an amount and more, with so much more in flight by edge."""
        low, high = self.low, self.high
        if taken:
            low, high = low.copy(), high.copy()
            for edge, units in taken.items():
                low[edge], high[edge] = max(low[edge] - units, 0.0), max(high[edge] - units, 0.0)
        weights = self._weights(float(amount), low, high)
        return weights, self._distances(weights)

    def _weights(self, amount: float, low: Floats, high: Floats) -> Floats:
        """Per edge what it costs at least, to send the bare amount, or more; infinite if it cannot be."""
        chances = np.clip((high + 1 - amount) / (high + 1 - low), 0.0, 1.0)
        usable = ~self.barred & (amount <= self.most) & (chances > 0)
        risk = np.log(chances, out=np.zeros_like(chances), where=usable) + math.log(ANSWERS)
        fees = self.base + np.ceil(self.ppm * (amount / 1e6) * (1 - SLACK))
        weights: Floats = np.where(usable, fees - self.query.price * risk, np.inf)
        return weights

    def _distances(self, weights: Floats) -> Floats:
        network = self.network
        through = weights.copy()
        through[network.incoming(self.source)] = np.inf  # no path leads through the payer
        size = len(network.nodes)
        shape = np.minimum.reduceat(through, network.pair), network.pair_receiver, network.pair_out
        distances: Floats = dijkstra(csr_array(shape, shape=(size, size)), indices=self.goal)
        return distances * (1 - SLACK)


def _of(taken: Mapping[int, int], edges: Iterable[int]) -> int:
    return sum(taken.get(edge, 0) for edge in edges)
