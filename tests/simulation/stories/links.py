"""Links of a story: whoever dials reaches whom it names, if that runs and admits it; messages keep their order.

What the product calls to dial is replaced by :func:`connect` here, so its own dialing and its patience are under test.

Source: layer1/link.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial
from typing import Any, Protocol

from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.link import LinkClosed
from tests.simulation.groups.links import SimulatedLink
from tests.simulation.groups.loop import ProcessLoop
from tests.simulation.kernel import World
from tests.simulation.network import CALM, Profile


class Node(Protocol):
    """A process that has links."""

    name: str
    ends: list[End]
    is_honest: bool

    @property
    def loop(self) -> ProcessLoop | None:
        """Of its present life."""

    def admits(self, peer: PublicKey, greeting: bytes) -> bool:
        """Whether this wallet may have a link now."""

    def attach(self, end: End) -> None:
        """Serve it; called on the loop."""

    def leaving(self, end: End, data: bytes) -> Iterable[bytes]:
        """What really leaves when it says this; a kill may strike here."""

    def arriving(self, end: End, data: bytes) -> Iterable[bytes]:
        """What it gets to hear."""


class End(SimulatedLink):
    """One end of one link."""

    other: End

    def __init__(self, exchange: Exchange, node: Node, loop: ProcessLoop, peer: PublicKey, greeting: bytes) -> None:
        super().__init__(peer, loop, self._depart, self._hang_up)
        self.node, self.greeting, self.loop = node, greeting, loop
        self._exchange = exchange
        self._arrives_us = 0

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return bool(self._ended)

    def has_room(self, data: bytes) -> bool:
        """There always is."""
        return True

    async def send(self, data: bytes) -> None:
        """Send, or say that it has ended."""
        if not self.send_nowait(data):
            raise LinkClosed(self._ended)

    def end(self, reason: str) -> None:
        """It is over, and the other side soon hears of it."""
        if not self._ended:
            super().end(reason)
            self._hang_up()

    def _depart(self, data: bytes) -> None:
        for really in self.node.leaving(self, data):
            self.say(really)

    def say(self, data: bytes) -> None:
        """It leaves when what was written before is durable; it is lost if the process dies before."""
        self._loop.world.schedule(self._loop.busy_until_us, partial(self._travel, data))

    def _travel(self, data: bytes) -> None:
        if not self._loop.dead and not self._ended:
            world, delay_us = self._loop.world, self._exchange.delay_us()
            self._arrives_us = max(self._arrives_us, world.now_us + delay_us)
            world.schedule(self._arrives_us, partial(self.other.hear, data))

    def hear(self, data: bytes) -> None:
        """A message arrives."""
        if not self._loop.dead and not self._ended:
            for seen in self.node.arriving(self, data):
                self._loop.call_soon(self.deliver, seen)

    def _hang_up(self) -> None:
        """Behind what was said."""
        world = self._loop.world
        at_us = max(self._arrives_us, world.now_us + self._exchange.delay_us())
        world.schedule(at_us, self.other._heard_the_end)
        if self in self.node.ends:
            self.node.ends.remove(self)

    def _heard_the_end(self) -> None:
        if not self._loop.dead and not self._ended:
            self._loop.call_soon(self.end, "the other side ended it")

    def break_off(self) -> None:
        """The network drops it, with all that is on its way."""
        self._exchange.world.stats["broken links"] += 1
        for end in (self, self.other):
            end._inbox.clear()
            if not end._loop.dead:
                end._loop.call_soon(end.end, "it broke")


class Exchange:
    """All links of a world."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.profile: Profile = CALM
        self.nodes: dict[str, Node] = {}
        self.parted: set[frozenset[str]] = set()
        """Pairs that do not reach each other."""
        self._random = world.random("links")

    def delay_us(self) -> int:
        """For one message."""
        profile, random = self.profile, self._random
        late_us = profile.spike_us if random.random() < profile.spike else 0
        return profile.delay_us + round(random.expovariate(1.0) * profile.jitter_us) + late_us

    def part(self, *names: str) -> None:
        """These two do not reach each other from now on."""
        self.parted.add(frozenset(names))
        for end in list(self.nodes[names[0]].ends):
            if end.other.node.name == names[1]:
                end.break_off()

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self.profile = CALM
        self.parted.clear()

    def died(self, node: Node) -> None:
        """Its links end."""
        for end in list(node.ends):
            end._hang_up()
        node.ends.clear()

    async def dial(self, caller: Node, host: str, key: SigningKey, expect: PublicKey | None, greeting: bytes) -> End:
        """A link to whoever is called so.

        Raises:
            LinkClosed: There is none.
        """
        loop = caller.loop
        assert loop is not None, "the dead do not dial"
        await asyncio.sleep(self.delay_us() / 1e6)
        target = self.nodes.get(host)
        if target is None or target.loop is None or frozenset((caller.name, host)) in self.parted:
            raise LinkClosed(f"{host} does not answer")
        if not target.admits(key.public, greeting):
            raise LinkClosed(f"{host} takes no link of ours")
        here = End(self, caller, loop, expect or key.public, b"")
        there = End(self, target, target.loop, key.public, greeting)
        here.other, there.other = there, here
        for end in (here, there):
            end.node.ends.append(end)
        there.loop.call_soon(target.attach, there)
        return here


class StoryLoop(ProcessLoop):
    """A loop that knows whose it is."""

    exchange: Exchange
    node: Node


async def connect(
    host: str,
    port: int,
    key: SigningKey,
    chain_id: Hash,
    *,
    expect: PublicKey | None = None,
    limits: Any = None,
    greeting: bytes = b"",
) -> End:
    """As :func:`layer1.link.connect`, from within a simulated process."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, StoryLoop), "only simulated processes run within a simulation"
    return await loop.exchange.dial(loop.node, host, key, expect, greeting)
