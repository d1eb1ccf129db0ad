"""Links between named nodes: connections that delay, stall, break and come back, and cuts in either direction.

A link of replicas is a connection: what it delivers comes in order, and what was on its way when it broke is lost. A
cut direction stalls; if the cut lasts, the connection breaks, and it comes back some time after the last cut is gone.
On top of that, consensus messages may travel as datagrams that are lost, doubled and overtaken: rule 10 promises to
survive it.

Nodes have names, and stand for the index of a replica; two nodes may stand for the same one (twins).

Source: docs/design/consensus.md, "Model" (partial synchrony), rule 10.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Protocol

from layer1.codec import encode
from layer1.consensus.messages import Fetch
from layer1.replica.messages import ConsensusMessage
from tests.simulation.kernel import MS, World

CONSENSUS_TAG = encode(ConsensusMessage(0, Fetch(None, 0, 0)))[:2]
"""How an encoded `ConsensusMessage` starts: an array whose first item is its tag."""

FIRST_BACKOFF_US = 50 * MS
MAX_BACKOFF_US = 2_000 * MS
"""Between two attempts to connect, as the driver's."""


def is_consensus(data: bytes) -> bool:
    """Whether replicas promise to survive the loss of this message (rule 10)."""
    return data.startswith(CONSENSUS_TAG)


@dataclass(frozen=True, slots=True)
class Profile:
    """How good all links are."""

    name: str
    delay_us: int
    """Least one-way delay."""
    jitter_us: int
    """Mean of what comes on top, exponentially distributed."""
    spike: float = 0.0
    """Part of the messages that a retransmission delays."""
    spike_us: int = 300 * MS
    loss: float = 0.0
    """Part of the consensus messages that never arrive."""
    duplication: float = 0.0
    reordering: float = 0.0
    """Part of the consensus messages that do not keep the order of their link."""

    @property
    def slowest_us(self) -> int:
        """A one-way delay that few messages exceed: one in thousands, of those that are not lost."""
        return self.delay_us + 8 * self.jitter_us + (2 * self.spike_us if self.spike else 0)


CALM = Profile("calm", 1 * MS, 1 * MS)
AWFUL = Profile("awful", 5 * MS, 50 * MS, spike=0.05, loss=0.3, duplication=0.3, reordering=0.5)
PROFILES = (
    CALM,
    Profile("wide", 40 * MS, 20 * MS),
    Profile("spiky", 2 * MS, 3 * MS, spike=0.03),
    Profile("lossy", 2 * MS, 5 * MS, loss=0.1, duplication=0.1, reordering=0.3),
    AWFUL,
)


class Node(Protocol):
    """What stands at the end of links."""

    name: str
    index: int
    """Of the replica that it stands for."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""

    @property
    def generation(self) -> int:
        """Of its journal, as greetings tell it."""

    def admits(self, peer: int, generation: int) -> bool:
        """Whether it takes a link to this replica, by its greeting."""

    def peer_up(self, peer: int, generation: int) -> None:
        """A link is open."""

    def peer_down(self, peer: int) -> None:
        """The link has ended."""

    def receive(self, peer: int, data: bytes) -> None:
        """A message came."""


@dataclass
class _End:
    """One node's side of a link: which connection it believes to have, and when its last message arrives."""

    node: Node
    connection: int | None = None
    last_us: int = 0
    """Arrival of the newest message on its way *to* this node."""
    stalled: list[bytes] = field(default_factory=list)
    """On their way to this node, behind a cut."""


class Link:
    """The connection between two nodes, over all its lives."""

    def __init__(self, network: Network, left: Node, right: Node) -> None:
        self._network = network
        self._world = network.world
        self._ends = {left.name: _End(left), right.name: _End(right)}
        self._names = (left.name, right.name)
        self._random = network.world.random(f"link {left.name}-{right.name}")
        self._cuts: Counter[str] = Counter()
        """By the node whose messages do not get through, how many cuts are at work."""
        self._connection = 0
        self._is_up = False
        self._is_dialing = False
        self._failures = 0
        """Attempts in a row that did not connect."""

    def other(self, name: str) -> Node:
        """Who is at the other end."""
        left, right = self._names
        return self._ends[right if name == left else left].node

    def connection_of(self, name: str) -> int | None:
        """The connection that a node believes to have: each has a number of its own."""
        return self._ends[name].connection

    # ---------------------------------------------------------------------------------------------------- connections

    def dial(self) -> None:
        """Connect as soon as that is possible; harmless when repeated."""
        if not self._is_dialing:
            self._is_dialing = True
            longest_us = min(FIRST_BACKOFF_US << self._failures, MAX_BACKOFF_US)
            self._world.after(self._random.randint(longest_us // 2, longest_us), self._try)

    def _try(self) -> None:
        self._is_dialing = False
        ends = list(self._ends.values())
        if self._is_up or not all(end.node.alive for end in ends):
            return
        if self._cuts or not self._greet(ends[0].node, ends[1].node):
            self._failures = min(self._failures + 1, 10)
            self.dial()
            return
        self._failures = 0
        self._connection += 1
        self._is_up = True
        for end, other in (ends, ends[::-1]):
            end.connection, end.last_us = self._connection, self._world.now_us
            end.stalled.clear()
            end.node.peer_up(other.node.index, other.node.generation)

    @staticmethod
    def _greet(left: Node, right: Node) -> bool:
        return left.admits(right.index, right.generation) and right.admits(left.index, left.generation)

    def break_off(self) -> None:
        """What is on its way is lost; each side notices in its own time, then it is dialed again."""
        if not self._is_up:
            return
        self._is_up = False
        self._world.stats["broken links"] += 1
        self._world.note("network", f"link {self._names[0]}-{self._names[1]} breaks")
        for end in self._ends.values():
            end.stalled.clear()
            notices_us = self._random.choice((1 * MS, 200 * MS))
            self._world.after(notices_us, partial(self._notice, end, self._connection))
        self.dial()

    def _notice(self, end: _End, connection: int) -> None:
        if end.connection == connection:
            end.connection = None
            end.node.peer_down(self.other(end.node.name).index)

    # -------------------------------------------------------------------------------------------------------- messages

    def send(self, sender: str, data: bytes) -> None:
        """Send to the other end, if the sender believes to have a connection."""
        receiver = self._ends[self.other(sender).name]
        if self._ends[sender].connection is None:
            return
        if self._cuts[sender]:
            receiver.stalled.append(data)
            return
        profile = self._network.profile
        if self._network.is_datagram(data) and (profile.loss or profile.duplication or profile.reordering):
            self._send_datagram(receiver, data, profile)
        else:
            self._send_in_order(receiver, data, profile)

    def _send_datagram(self, receiver: _End, data: bytes, profile: Profile) -> None:
        if self._random.random() < profile.loss:
            self._world.stats["lost messages"] += 1
            return
        copies = 2 if self._random.random() < profile.duplication else 1
        for _ in range(copies):
            if self._random.random() < profile.reordering:
                self._deliver_at(self._world.now_us + self._delay_us(profile), receiver, data)
            else:
                self._send_in_order(receiver, data, profile)

    def _send_in_order(self, receiver: _End, data: bytes, profile: Profile) -> None:
        receiver.last_us = max(receiver.last_us + 1, self._world.now_us + self._delay_us(profile))
        self._deliver_at(receiver.last_us, receiver, data)

    def _delay_us(self, profile: Profile) -> int:
        delay = profile.delay_us + min(8.0, self._random.expovariate(1.0)) * profile.jitter_us
        if profile.spike and self._random.random() < profile.spike:
            delay += self._random.uniform(1, 2) * profile.spike_us
        return int(delay)

    def _deliver_at(self, at_us: int, receiver: _End, data: bytes) -> None:
        self._world.schedule(at_us, partial(self._deliver, receiver, self._connection, data))

    def _deliver(self, receiver: _End, connection: int, data: bytes) -> None:
        if self._is_up and receiver.connection == connection == self._connection:
            receiver.node.receive(self.other(receiver.node.name).index, data)

    # ------------------------------------------------------------------------------------------------------------ cuts

    def cut(self, sender: str) -> None:
        """What this node sends does not get through from now on; the connection breaks if that lasts."""
        self._cuts[sender] += 1
        patience_us = self._random.randint(300 * MS, 10_000 * MS)
        self._world.after(patience_us, partial(self._give_up, self._connection))

    def mend(self, sender: str) -> None:
        """One cut less; what stalled arrives."""
        self._cuts[sender] -= 1
        if self._cuts[sender] <= 0:
            del self._cuts[sender]
            receiver = self._ends[self.other(sender).name]
            stalled, receiver.stalled = receiver.stalled, []
            for data in stalled:
                self._send_in_order(receiver, data, self._network.profile)

    def _give_up(self, connection: int) -> None:
        if self._cuts and connection == self._connection:
            self.break_off()


class Network:
    """All links."""

    def __init__(
        self, world: World, nodes: Iterable[Node], profile: Profile, is_datagram: Callable[[bytes], bool] = is_consensus
    ) -> None:
        """Links between all of these nodes; `is_datagram` tells what may be lost, doubled and overtaken on them."""
        self.world = world
        self.profile = profile
        self.is_datagram = is_datagram
        self._links: dict[frozenset[str], Link] = {}
        self._by_node: dict[str, list[Link]] = {}
        for left, right in combinations(nodes, 2):
            link = self._links[frozenset((left.name, right.name))] = Link(self, left, right)
            for node in (left, right):
                self._by_node.setdefault(node.name, []).append(link)

    def link(self, left: str, right: str) -> Link:
        """The link between two nodes."""
        return self._links[frozenset((left, right))]

    def links(self) -> list[Link]:
        """All of them, in the order of the nodes."""
        return list(self._links.values())

    def peers(self, name: str) -> tuple[int, ...]:
        """Whom the nodes at the other ends of its links stand for."""
        return tuple(link.other(name).index for link in self._by_node.get(name, ()))

    def joined(self, name: str) -> None:
        """A node has started: its links are dialed."""
        for link in self._by_node.get(name, ()):
            link.dial()

    def left(self, name: str) -> None:
        """A node has died: its links break."""
        for link in self._by_node.get(name, ()):
            link.break_off()

    def send(self, sender: str, peer: int | None, data: bytes) -> None:
        """From a node to whoever stands for this replica, or on every link."""
        for link in self._by_node.get(sender, ()):
            if peer is None or link.other(sender).index == peer:
                link.send(sender, data)

    def connections_of(self, name: str, peer: int) -> frozenset[int]:
        """Those that a node believes to have to whoever stands for this replica: one, or none, or two with twins."""
        ends = (link for link in self._by_node.get(name, ()) if link.other(name).index == peer)
        return frozenset(found for link in ends if (found := link.connection_of(name)) is not None)

    def cut(self, senders: Iterable[str], receivers: Iterable[str]) -> Callable[[], None]:
        """Nothing gets from these to those any more. Returns what mends it; mending twice does nothing."""
        receivers = list(receivers)
        cut = [(self.link(one, two), one) for one in senders for two in receivers if one != two]
        for link, sender in cut:
            link.cut(sender)

        def mend() -> None:
            while cut:
                link, sender = cut.pop()
                link.mend(sender)

        return mend
