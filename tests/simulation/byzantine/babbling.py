"""A replica that mixes garbage into what it says: noise, torn messages, flipped bits, and well-formed nonsense."""

from __future__ import annotations

from collections.abc import Iterable

from layer1.codec import encode
from layer1.consensus.messages import Fetch, Finalization, Finalize, Notarize, Nullification, Nullify
from layer1.replica.messages import (
    BatchAnnounce,
    BatchData,
    Blocks,
    BlocksRequest,
    ConsensusMessage,
    FetchBatch,
    LinkMessage,
)
from tests.simulation.byzantine.role import Role

NUMBERS = (-(2**63), -1, 0, 1, 7, 2**31, 2**62 - 1, 2**62, 2**63 - 1)


class Babbling(Role):
    """A third of what it says means nothing."""

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        if self.chance(0.7):
            yield data
        if self.chance(0.3):
            yield self._garbage(data)

    def _garbage(self, data: bytes) -> bytes:
        kind = self.random.randrange(4)
        if kind == 0:
            return self.random.randbytes(self.random.randint(0, 200))
        if kind == 1:
            return data[: self.random.randrange(len(data))]
        if kind == 2:
            flipped = bytearray(data)
            flipped[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
            return bytes(flipped)
        return encode(self._nonsense())

    def _nonsense(self) -> LinkMessage:
        number, noise = self.random.choice(NUMBERS), self.random.randbytes(self.random.choice((0, 32, 64)))
        replica = self.random.choice((-1, 0, self.position, 99))
        epoch = self.random.choice((*(self.epoch,) * 6, -1, self.epoch + 1, 2**62))
        return self.random.choice(
            (
                ConsensusMessage(epoch, Notarize(0, number, noise, replica, noise)),
                ConsensusMessage(epoch, Finalize(self.random.choice((0, 1)), number, noise, replica, noise)),
                ConsensusMessage(epoch, Nullify(0, number, replica, noise)),
                ConsensusMessage(epoch, Finalization(0, number, noise, ((replica, noise),) * 3)),
                ConsensusMessage(epoch, Nullification(0, number, ((replica, number, noise),) * 3)),
                ConsensusMessage(epoch, Fetch(self.random.choice((None, noise)), -number % 2**63, number)),
                ConsensusMessage(epoch, self.signer.notarize(max(1, number), bytes(32))),
                ConsensusMessage(epoch, self.signer.nullify(max(1, number))),
                BatchData(noise),
                BatchAnnounce((noise,) * 3),
                FetchBatch(noise),
                BlocksRequest(number),
                Blocks(()),
            )
        )
