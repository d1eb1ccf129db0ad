"""A leader whose headers say something else than executing them gives: state, outputs, clock, time, or height."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec import structs

from layer1.codec import encode
from layer1.crypto import Domain, digest
from layer1.header import BlockId, Header
from layer1.replica.messages import ConsensusMessage
from tests.simulation.byzantine.role import Host, Role, read


class WrongRoot(Role):
    """Proposes invalid blocks, to some or to all."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._spoiled: dict[BlockId, bytes] = {}
        self._receivers = frozenset(self.peers) if self.chance(0.5) else self.some_peers()

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        proposal = self.own_proposal(read(data))
        if proposal is None or peer not in self._receivers:
            return (data,)
        block = proposal.vote.block
        if block not in self._spoiled:
            self._spoiled[block] = encode(
                ConsensusMessage(self.epoch, self.propose(proposal, self._spoil(proposal.header)))
            )
        return (self._spoiled[block],)

    def _spoil(self, header: Header) -> Header:
        field = self.random.choice(
            ("state_root", "outputs_root", "transactions_root", "clock", "wall_time", "height", "parent")
        )
        value = getattr(header, field)
        if isinstance(value, bytes):
            return structs.replace(header, **{field: digest(Domain.NODE, value)})
        return structs.replace(header, **{field: max(0, value + self.random.choice((-1_000, -1, 1, 100_000)))})
