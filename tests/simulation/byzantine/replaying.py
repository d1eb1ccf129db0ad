"""A replica that says again what was said long ago, by itself or by others, to whom it was not meant for."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from tests.simulation.byzantine.role import Host, Role

KEPT = 300
"""Messages that it remembers, any of the run with equal chance."""


class Replaying(Role):
    """Lives in old views."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._kept: list[bytes] = []
        self._seen = 0

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        self._keep(data)
        yield data
        while self._kept and self.chance(0.4):
            yield self.random.choice(self._kept)

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        self._keep(data)
        return (data,)

    def _keep(self, data: bytes) -> None:
        self._seen += 1
        if len(self._kept) < KEPT:
            self._kept.append(data)
        elif (place := self.random.randrange(self._seen)) < KEPT:
            self._kept[place] = data
