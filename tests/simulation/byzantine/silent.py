"""A replica that hears everything and says nothing: to anybody, to some, or only from some moment on."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from tests.simulation.byzantine.role import Host, Role
from tests.simulation.kernel import MS


class Silent(Role):
    """Dead, as far as some can tell."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._deaf = frozenset(self.peers) if self.chance(0.5) else self.some_peers()
        self._from_us = self.random.choice((0, self.random.randint(0, 4_000) * MS))

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        is_silent = peer in self._deaf and self.host.world.now_us >= self._from_us
        return () if is_silent else (data,)
