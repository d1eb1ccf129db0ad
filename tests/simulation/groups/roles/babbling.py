"""It sends bytes that are no message, and messages with something changed in them."""

from __future__ import annotations

from collections.abc import Iterable

from tests.simulation.groups.roles.role import Role


class Babbling(Role):
    """Talks nonsense now and then."""

    def act(self) -> None:
        for group_id in self.seen:
            peer = self.peer_of(group_id)
            if peer is not None and self.random.random() < 0.1:
                self.host.say(peer, self.random.randbytes(self.random.randint(0, 200)))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        if self.random.random() < 0.9:
            return (data,)
        changed = bytearray(data)
        changed[self.random.randrange(len(changed))] ^= 1 << self.random.randrange(8)
        return self.random.choice(((bytes(changed),), (bytes(changed), data), (data[: len(data) // 2], data)))
