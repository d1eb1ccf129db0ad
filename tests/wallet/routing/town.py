"""Small networks for tests, and a deliberately dumb search that tries every path."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

from layer1.crypto import ZERO_HASH, Domain, Hash, PublicKey, SigningKey, digest
from wallet.routing.announcements import ChannelAnnouncement, fee_units
from wallet.routing.graph import Channel, ChannelGraph
from wallet.routing.network import Network
from wallet.routing.paths import Query
from wallet.routing.prices import ANSWERS

KEYS = [SigningKey(digest(Domain.GROUP, b"node %d" % number)) for number in range(12)]
NODES: list[PublicKey] = [key.public for key in KEYS]


Way = tuple[int, float, float, tuple[Hash, ...]]
"""Fee, chance, cost, channels."""


@dataclass(frozen=True)
class Edge:
    """Terms of one direction."""

    base: int = 0
    ppm: int = 0
    least: int = 1
    most: int = 2**40
    margin_ms: int = 0
    enabled: bool = True
    hint: int | None = None


@dataclass
class Town:
    """Channels between numbered nodes."""

    channels: list[tuple[int, int, int]] = field(default_factory=list)
    """First node, second node, capacity."""
    terms: dict[tuple[int, int], Edge] = field(default_factory=dict)
    """By channel and direction (0: from its first node); what is missing was never announced."""

    def add(self, first: int, second: int, capacity: int, there: Edge | None = None, back: Edge | None = None) -> Hash:
        number = len(self.channels)
        self.channels.append((first, second, capacity))
        for direction, terms in enumerate((there, back)):
            if terms is not None:
                self.terms[number, direction] = terms
        return channel_id(number)

    def graph(self) -> ChannelGraph:
        graph = ChannelGraph(ZERO_HASH)
        for number, (first, second, capacity) in enumerate(self.channels):
            graph.show(Channel(channel_id(number), (NODES[first], NODES[second]), capacity))
        return graph

    def network(self) -> Network:
        network = Network(self.graph())
        for (number, direction), terms in self.terms.items():
            network.announce(announcement(number, self.channels[number][direction], terms))
        return network

    def paths(self, query: Query) -> Iterator[Way]:
        """(fee, chance, cost, channels) of each simple path that keeps all limits, with true amounts."""
        yield from self._back(query, NODES.index(query.target), query.amount, 1.0, ())

    def _back(self, query: Query, node: int, need: int, likely: float, path: tuple[Hash, ...]) -> Iterator[Way]:
        if NODES[node] == query.source and path:
            fee = need - query.amount
            yield fee, likely, fee - query.price * math.log(likely), path
            return
        visited = {NODES.index(query.target), *self._on(path)}
        for number, ends in enumerate(self.channels):
            for direction in (0, 1):
                sender, receiver = ends[direction], ends[1 - direction]
                if receiver != node or channel_id(number) in path or len(path) == query.max_hops:
                    continue
                if sender in visited and NODES[sender] != query.source:
                    continue
                if (taken := self._hop(query, number, direction, need)) is None:
                    continue
                fee, chance = taken
                if need + fee - query.amount <= query.max_fee:
                    yield from self._back(query, sender, need + fee, likely * chance, (channel_id(number), *path))

    def _on(self, path: tuple[Hash, ...]) -> set[int]:
        """Nodes on a path: all ends of its channels; the one that is looked from is among them already."""
        numbers = [number for number in range(len(self.channels)) if channel_id(number) in path]
        return {end for number in numbers for end in self.channels[number][:2]}

    def _hop(self, query: Query, number: int, direction: int, need: int) -> tuple[int, float] | None:
        sender, capacity = NODES[self.channels[number][direction]], self.channels[number][2]
        name = channel_id(number)
        if sender == query.source:
            return (0, ANSWERS) if query.own.get(name, 0) >= need else None
        terms = self.terms.get((number, direction))
        if terms is None or not terms.enabled or query.amount < terms.least or terms.margin_ms > query.life_ms:
            return None
        if need > min(terms.most, capacity) or (name, sender) in query.avoid:
            return None
        low = capacity * (terms.hint or 0) // 16
        chance = min(max((capacity + 1 - need) / (capacity + 1 - low), 0.0), 1.0) * ANSWERS
        return fee_units(terms.base, terms.ppm, need), chance


def channel_id(number: int) -> Hash:
    return digest(Domain.GROUP, b"channel %d" % number)


def announcement(number: int, node: int, terms: Edge, sequence: int = 1) -> ChannelAnnouncement:
    return ChannelAnnouncement(
        NODES[node], channel_id(number), sequence, terms.enabled, terms.base, terms.ppm, terms.least, terms.most,
        terms.margin_ms, terms.hint,
    )  # fmt: skip
