"""It says again what it said before, in any order, and hears again what it heard."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from tests.simulation.groups.roles.role import Host, Role

REMEMBERED = 200
"""Messages that it keeps."""


class Replaying(Role):
    """Repeats itself."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._said: list[tuple[int, bytes]] = []
        self._heard: dict[int, list[bytes]] = {}

    def act(self) -> None:
        for peer, data in self.random.sample(self._said, min(3, len(self._said))):
            self.host.say(peer, data)

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        self._said = [*self._said[-REMEMBERED:], (peer, data)]
        if self.random.random() < 0.2:
            return (data, *(old for to, old in self.random.sample(self._said, 1) if to == peer))
        return (data,)

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        heard = self._heard[peer] = [*self._heard.get(peer, ())[-REMEMBERED:], data]
        return (data, self.random.choice(heard)) if self.random.random() < 0.1 else (data,)
