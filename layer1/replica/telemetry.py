"""The replica's metrics with labels, made from the counters of its parts when somebody asks.

Which replica is slow: ``peer_vote_delay_seconds`` beside ``peer_votes``; which is silent: ``peer_silence_seconds``;
which view ended, and why: ``nullify_votes`` and ``nullify_view`` by reason and leader, ``nullifications`` by leader;
whose disk is slow: ``journal_sync_seconds`` beside ``journal_syncs``, on that replica.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

from layer1.api.backend import Series
from layer1.consensus.observing import Observations, Why

Values = dict[tuple[str, ...], float]


class Syncs:
    """How often somebody waited for the disk, and how long."""

    def __init__(self) -> None:
        self.count = 0
        self.seconds = 0.0

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Count one."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.count += 1
            self.seconds += time.perf_counter() - started


def series(
    seen: Observations,
    *,
    numbers: Sequence[int],
    own: int,
    links: Collection[int],
    counters: Mapping[str, Mapping[int, int]],
    syncs: Syncs,
    now_ms: int,
) -> list[Series]:
    """All of them.

    Args:
        seen: By consensus.
        numbers: Of the replicas in the set, by position. They are the labels, for positions change with the set.
        own: Number of this replica.
        links: Numbers of those with a link.
        counters: Further ones by peer.
        syncs: Of the journal.
        now_ms: Monotonic.
    """
    leaders = list(enumerate(numbers))
    others = [(position, number) for position, number in leaders if number != own]
    peers = [number for _, number in others]
    votes: Values = {(str(peer),): float(seen.votes[i]) for i, peer in others}
    delays: Values = {(str(peer),): seen.delay_ms[i] / 1000 for i, peer in others}
    silences: Values = {
        (str(peer),): (now_ms - heard) / 1000 for i, peer in others if (heard := seen.heard_ms[i]) is not None
    }
    connected: Values = {(str(peer),): float(peer in links) for peer in peers}
    reasons: Values = {(why.value, str(leader)): float(seen.nullified[why, i]) for why in Why for i, leader in leaders}
    given_up: Values = {(why.value, str(numbers[i])): float(view) for (why, i), view in seen.nullified_view.items()}
    ends: Values = {(str(leader),): float(seen.nullifications[i]) for i, leader in leaders}
    return [
        Series("peer_connected", "Whether there is a link with this peer.", ("peer",), connected, counts=False),
        Series("peer_silence_seconds", "Since its last message of consensus.", ("peer",), silences, counts=False),
        Series("peer_votes", "Its notarize votes that came, one a view.", ("peer",), votes),
        Series("peer_vote_delay_seconds", "Sum of delays behind the first vote of each view.", ("peer",), delays),
        Series("nullify_votes", "Own votes to give up on a leader, by reason.", ("reason", "leader"), reasons),
        Series("nullify_view", "The newest view of these votes.", ("reason", "leader"), given_up, counts=False),
        Series("nullifications", "Terms that a quorum gave up, by leader.", ("leader",), ends),
        Series("journal_syncs", "Turns that waited for the disk.", (), {(): float(syncs.count)}),
        Series("journal_sync_seconds", "How long they waited.", (), {(): syncs.seconds}),
        *(_by_peer(name, counted, peers) for name, counted in counters.items()),
    ]


def _by_peer(name: str, counted: Mapping[int, int], peers: Sequence[int]) -> Series:
    told = {"misbehaved": "Messages that broke the protocol.", "cut_off": "Links cut for it."}[name]
    return Series(f"peer_{name}", told, ("peer",), {(str(peer),): float(counted.get(peer, 0)) for peer in peers})
