"""The channel graph as arrays, so that a search prices all channels at once.

Each channel is two edges, one per direction; edges are sorted by sender, then receiver, so that a node's are together,
and those of one pair of nodes too. Building takes a moment (0.5 s for 100,000 channels); later announcements and what
payments teach are put into their place.

Source: docs/design/groups.md, rules 20 to 23; decision 039.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from layer1.crypto import Hash, PublicKey
from wallet.routing.announcements import HINT_STEPS, ChannelAnnouncement
from wallet.routing.graph import Channel, ChannelGraph
from wallet.routing.liquidity import HALF_LIFE_MS, Bounds

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]


class Network:
    """A graph, compiled. Channels that open need a new one; what else changes is changed in place."""

    def __init__(self, graph: ChannelGraph, learnt: Iterable[tuple[Hash, Bounds]] = ()) -> None:
        channels = list(graph.channels.values())
        self.opened = graph.opened
        """As of then: more are missing here."""
        self._channels = channels
        self._index = {channel.id: number for number, channel in enumerate(channels)}
        self.nodes = sorted({node for channel in channels for node in channel.nodes})
        self.number = {node: number for number, node in enumerate(self.nodes)}
        self._lay_out()
        count = 2 * len(channels)
        self.base, self.ppm = np.zeros(count), np.zeros(count)
        self.least, self.most, self.margin = np.ones(count), np.zeros(count), np.zeros(count)
        """Per edge, from its sender's announcement; one that never announced anything carries nothing (`most` is
        0)."""
        self.heard = np.zeros(count, np.bool_)
        """Per edge, whether its sender announced anything."""
        capacity = np.array([channel.capacity for channel in channels], np.float64)
        self._low, self._high = np.zeros(count), capacity[self.channel]
        self._taught = np.zeros(count, np.bool_)
        self._taught_low, self._taught_high, self._taught_ms = np.zeros(count), np.zeros(count), np.zeros(count)
        for channel in channels:
            for node in channel.nodes:
                if (terms := graph.terms(channel.id, node)) is not None:
                    self.announce(terms)
        for channel_id, bounds in learnt:
            self.teach(channel_id, bounds)

    def _lay_out(self) -> None:
        """Number the edges, and find each node's."""
        count = len(self._channels)
        ends = np.array([[self.number[node] for node in channel.nodes] for channel in self._channels], np.int64)
        ends = ends.reshape(count, 2)
        sender, receiver = np.concatenate([ends[:, 0], ends[:, 1]]), np.concatenate([ends[:, 1], ends[:, 0]])
        order = np.lexsort((receiver, sender))
        self.sender: Integers = sender[order]
        self.receiver: Integers = receiver[order]
        self.channel: Integers = (order % max(count, 1)).astype(np.int64)
        self.forward: Flags = order < count
        """Whether the edge goes from the channel's first node to its second."""
        place = np.empty(2 * count, np.int64)
        place[order] = np.arange(2 * count)
        self._place: Integers = place
        numbers = np.arange(len(self.nodes) + 1)
        self.out: Integers = np.searchsorted(self.sender, numbers)
        """Edges `out[n]` to `out[n + 1]` leave node n."""
        self._incoming: Integers = np.argsort(self.receiver, kind="stable")
        self._into: Integers = np.searchsorted(self.receiver[self._incoming], numbers)
        starts = np.ones(2 * count, np.bool_)
        starts[1:] = (self.sender[1:] != self.sender[:-1]) | (self.receiver[1:] != self.receiver[:-1])
        self.pair: Integers = np.flatnonzero(starts)
        """First edge of each pair of nodes that has some."""
        self.pair_out = np.searchsorted(self.sender[self.pair], numbers).astype(np.int32)
        self.pair_receiver = self.receiver[self.pair].astype(np.int32)

    def incoming(self, node: int) -> Integers:
        """Edges that end at a node."""
        return self._incoming[self._into[node] : self._into[node + 1]]

    def has(self, channel_id: Hash) -> bool:
        """Whether this channel is here."""
        return channel_id in self._index

    def edge(self, channel_id: Hash, sender: PublicKey) -> int | None:
        """The edge of a channel that leaves `sender`; None if there is none."""
        number = self._index.get(channel_id)
        if number is None or sender not in self._channels[number].nodes:
            return None
        backward = self._channels[number].nodes[1] == sender
        return int(self._place[number + backward * len(self._channels)])

    def reverse(self, edge: int) -> int:
        """The other direction of the same channel."""
        return int(self._place[self.channel[edge] + self.forward[edge] * len(self._channels)])

    def channel_of(self, edge: int) -> Channel:
        """Whose edge it is."""
        return self._channels[int(self.channel[edge])]

    def announce(self, terms: ChannelAnnouncement) -> None:
        """Put a member's terms into their place; nothing if there is no such channel here."""
        edge = self.edge(terms.channel, terms.node)
        if edge is None:
            return
        capacity = self.channel_of(edge).capacity
        self.base[edge], self.ppm[edge], self.margin[edge] = terms.fee_base, terms.fee_ppm, terms.margin_ms
        self.least[edge], self.heard[edge] = terms.min_amount, True
        self.most[edge] = min(terms.max_amount, capacity) if terms.enabled else 0
        self._low[edge] = capacity * (terms.hint or 0) // HINT_STEPS

    def close(self, channel_id: Hash) -> None:
        """Layer 1 shows it open no more: it carries nothing from now on."""
        if (number := self._index.get(channel_id)) is not None:
            for edge in (self._place[number], self._place[number + len(self._channels)]):
                self.most[edge] = 0.0

    @property
    def longest_ms(self) -> float:
        """The longest margin that anybody asks for."""
        return float(self.margin.max(initial=0.0))

    def teach(self, channel_id: Hash, bounds: Bounds) -> None:
        """Put what was learnt of a channel into its place, both directions; see `wallet.routing.liquidity`."""
        if (number := self._index.get(channel_id)) is None:
            return
        for edge, told in (
            (self._place[number], bounds),
            (self._place[number + len(self._channels)], bounds.flipped()),
        ):
            self._taught[edge] = True
            self._taught_low[edge], self._taught_high[edge] = told.low, told.high
            self._taught_ms[edge] = told.at_ms

    def bounds(self, now_ms: int) -> tuple[Floats, Floats]:
        """Per edge the least and the most that its sender may have, after what was forgotten since.

        A hint is where forgetting ends; what was learnt overrides it.
        """
        low, high = self._low.copy(), self._high.copy()
        edges = np.flatnonzero(self._taught)
        if len(edges):
            left = 0.5 ** (np.maximum(now_ms - self._taught_ms[edges], 0.0) / HALF_LIFE_MS)
            high[edges] -= (high[edges] - self._taught_high[edges]) * left
            low[edges] += (self._taught_low[edges] - low[edges]) * left
            low[edges] = np.minimum(low[edges], high[edges])
        return low, high
