"""A replica that takes no batch: as a leader it proposes in time, but only just, and never what clients wait for.

Source: docs/design/consensus.md, rule 6 (the inclusion timeout).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from random import Random

from layer1.replica.application import Part
from layer1.replica.core import ReplicaCore
from tests.simulation.byzantine.role import Host, Role, read
from tests.simulation.kernel import MS

PAUSE = 0.3
"""Part of a view's timeout from one proposal to the next: so a term lasts. They are built up to two views ahead, and
refused when they are old."""


class Censoring(Role):
    """Its blocks are empty."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._pause_us = round(PAUSE * host.config.view_timeout_ms * MS)
        self._leaves_us: dict[bytes, int] = {}
        self._last_us = 0

    def twist(self, core: ReplicaCore) -> None:
        def nothing(_parent: bytes, _candidates: Iterable[Part]) -> tuple[Part, ...]:
            return ()

        core.application._choose = nothing  # type: ignore[method-assign, assignment]

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        proposal = self.own_proposal(read(data))
        if proposal is None:
            return (data,)
        block = proposal.vote.block
        if block not in self._leaves_us:
            self._last_us = max(self.host.world.now_us, self._last_us) + self._pause_us
            self._leaves_us[block] = self._last_us
        self.host.world.schedule(self._leaves_us[block], partial(self.host.transmit, peer, data))
        return ()
