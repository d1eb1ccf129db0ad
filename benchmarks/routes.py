"""Finding a path in a network of 100,000 channels: the whole search, beside the bare search of the library.

CPU time, so that other work on the machine does not count. Nodes are linked as in networks that grew: a few have very
many channels. Fees, limits and capacities vary; every amount and every pair of nodes is priced anew.
"""

from __future__ import annotations

import random
import statistics
import time
from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array  # type: ignore[import-untyped]
from scipy.sparse.csgraph import dijkstra  # type: ignore[import-untyped]

from benchmarks.floors import Floors
from benchmarks.result import Result
from layer1.crypto import ZERO_HASH, Domain, Hash, PublicKey, digest
from layer1.errors import Refused
from wallet.routing.announcements import ChannelAnnouncement
from wallet.routing.graph import Channel, ChannelGraph
from wallet.routing.network import Network
from wallet.routing.paths import Query
from wallet.routing.search import find_path
from wallet.routing.splitting import find_plan

CHANNELS = 100_000
NODES = 20_000
QUERIES = 200
FEWER = 40
"""Queries with ``--quick``."""
MARK_MS = 20


def measure(_: Floors, queries: int = QUERIES) -> list[Result]:
    """Searches between random nodes; each floor is the library's search of the same graph."""
    chance = random.Random(6)
    network, graph = grown(chance)
    asked = [question(chance, network, graph) for _ in range(queries)]
    took_ms: list[float] = []
    payable: list[Query] = []
    for query in asked:
        start = time.process_time()
        try:
            find_path(network, query)
            payable.append(query)
        except Refused:
            pass
        took_ms.append((time.process_time() - start) * 1e3)
    if len(payable) < queries * 3 // 4:
        raise RuntimeError(f"{len(payable)} of {queries} searches found a path: the network is no good for measuring")
    parts, plan_ms = divided(network, payable[:FEWER])
    median = statistics.median(took_ms)
    return [
        Result(
            f"a path over {CHANNELS:,} channels (median, CPU)",
            median,
            "ms",
            floor_ms(network, asked),
            "the library's bare search from one node, weights given; beside it each query prices all "
            f"{2 * CHANNELS:,} directions; the longest of {queries} took {max(took_ms):.0f} ms",
            mark=MARK_MS,
        ),
        Result(
            f"the parts of a payment over {CHANNELS:,} channels (mean, CPU)",
            plan_ms,
            "ms",
            median,
            f"one path; {statistics.mean(filter(None, parts)):.1f} parts on average, {max(parts)} at most; "
            f"no way for {parts.count(0)} of {len(parts)}, which takes longest",
        ),
    ]


def divided(network: Network, payable: list[Query]) -> tuple[list[int], float]:
    """In how many parts each goes, of half of what its payer has in one channel; and how long that takes, ms."""
    parts: list[int] = []
    start = time.process_time()
    for query in payable:
        try:
            parts.append(len(find_plan(network, replace(query, amount=max(query.own.values()) // 2)).parts))
        except Refused:
            parts.append(0)  # looking for it in vain takes longest
    return parts, (time.process_time() - start) / len(parts) * 1e3


def grown(chance: random.Random) -> tuple[Network, ChannelGraph]:
    """A network to which nodes came one by one, and were linked to those that had many channels already."""
    graph = ChannelGraph(ZERO_HASH)
    ends = [0, 1]
    terms: list[ChannelAnnouncement] = []
    for number in range(CHANNELS):
        first = number + 2 if number + 2 < NODES else chance.choice(ends)
        second = chance.choice(ends)
        while second == first:
            second = chance.choice(ends)
        ends += [first, second]
        channel = Channel(_name(number), (_node(first), _node(second)), int(10 ** chance.uniform(4, 7)))
        graph.show(channel)
        terms += [_terms(chance, channel, node) for node in channel.nodes]
    network = Network(graph)
    for told in terms:
        network.announce(told)
    return network, graph


def question(chance: random.Random, network: Network, graph: ChannelGraph) -> Query:
    """A payment between two random nodes, of an amount that channels may carry."""
    source, target = chance.sample(network.nodes, 2)
    number = network.number[source]
    own = [network.channel_of(edge) for edge in range(network.out[number], network.out[number + 1])]
    return Query(source, target, int(10 ** chance.uniform(1, 3.5)), {each.id: each.capacity // 2 for each in own})


def floor_ms(network: Network, asked: list[Query]) -> float:
    """Median of the library's search alone, over the same graph with some weights, ms."""
    weights = np.random.default_rng(6).uniform(1, 100, len(network.pair))
    size = len(network.nodes)
    graph = csr_array((weights, network.pair_receiver, network.pair_out), shape=(size, size))
    took = []
    for query in asked:
        start = time.process_time()
        dijkstra(graph, indices=network.number[query.source])
        took.append((time.process_time() - start) * 1e3)
    return statistics.median(took)


def _terms(chance: random.Random, channel: Channel, node: PublicKey) -> ChannelAnnouncement:
    base, ppm = chance.randrange(5), chance.choice([1, 10, 100, 500, 2_500])
    return ChannelAnnouncement(node, channel.id, 1, chance.random() < 0.95, base, ppm, 1, channel.capacity, 3_600_000)


def _name(number: int) -> Hash:
    return digest(Domain.GROUP, b"channel %d" % number)


def _node(number: int) -> PublicKey:
    return digest(Domain.GROUP, b"node %d" % number)
