"""A flood of tiny locks: a dishonest member offers as many of the least as fit, and ends none of them.

Slots are capped: the channel is full of locks then, and ordinary payments go on; each lock ends when its time is over.
"""

from __future__ import annotations

from layer1.crypto import Hash
from layer1.errors import WedgeError
from layer2.payments import offer
from tests.simulation.groups.roles.role import Role
from tests.simulation.networks.member import MARGIN_MS
from tests.simulation.stories.member import Life, MemberProcess
from tests.simulation.stories.plot import Plot

AT_ONCE = 10


class Flooding(Role):
    """Offers, offers."""

    host: MemberProcess

    def act(self) -> None:
        life = self.host.life
        if life is not None and not self.host.world.stats["locks of a flood"] > 400:
            with life.loop.running():
                for group_id, group in life.parts.host.groups.items():
                    if group.stopped is None:
                        life.loop.spawn(self._offer(life, group_id), "a flood")

    async def _offer(self, life: Life, group_id: Hash) -> None:
        host = life.parts.host
        peer, expiry_ms = 1 - host.groups[group_id].place.index, host.clock_ms() + 5 * MARGIN_MS
        for _ in range(AT_ONCE):
            hashed = self.random.randbytes(32)
            try:
                await host.submit(group_id, offer(peer, self.random.choice((1, 2)), hashed, expiry_ms))
            except WedgeError as error:
                self.host.world.stats[f"floods refused: {getattr(error, 'code', 'pending')}"] += 1
                return
            self.host.world.stats["locks of a flood"] += 1


class Flood(Plot):
    """Who floods takes slots, and no more."""

    def begin(self) -> None:
        self.corrupt(Flooding)
