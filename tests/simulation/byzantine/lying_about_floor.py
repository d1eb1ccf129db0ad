"""A replica that lies about how far it is: old or missing finalizations, false answers to who is behind, mad questions.

Source: docs/design/consensus.md, "Catching up, joining, leaving"; "Persist before sending" (generations).
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec import structs

from layer1.codec import encode
from layer1.consensus.messages import Fetch, Finalization
from layer1.replica.messages import Blocks, BlocksRequest, ConsensusMessage
from tests.simulation.byzantine.role import Host, Role, read


class LyingAboutFloor(Role):
    """Sends those who are behind astray."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._finalizations: list[Finalization] = []
        self._rise = self.random.choice((0, 0, 1, 2**40))

    def generation(self, real: int) -> int:
        self._rise += self.random.choice((0, 0, 1))
        return real + self._rise

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, Blocks):
            yield encode(self._spoil(message))
        elif isinstance(message, ConsensusMessage) and isinstance(message.message, Finalization):
            self._finalizations.append(message.message)
            yield encode(ConsensusMessage(self.epoch, self._lie(message.message)))
        else:
            yield data
        if self.chance(0.1):
            yield encode(self._ask())

    def _spoil(self, answer: Blocks) -> Blocks:
        blocks = answer.blocks
        kind = self.random.randrange(5)
        if kind == 0 or not blocks:
            return Blocks(())
        if kind == 1:
            return Blocks(blocks[: self.random.randint(0, len(blocks))])
        if kind == 2:
            return Blocks(blocks[1:])
        place = self.random.randrange(len(blocks))
        block = blocks[place]
        if kind == 3:
            block = structs.replace(block, batches=())
        elif block.finalization is not None:
            forged = tuple((replica, bytes(64)) for replica, _ in block.finalization.signatures)
            block = structs.replace(block, finalization=structs.replace(block.finalization, signatures=forged))
        return Blocks((*blocks[:place], block, *blocks[place + 1 :]))

    def _lie(self, finalization: Finalization) -> Finalization:
        if self.chance(0.3):
            return self.random.choice(self._finalizations)
        if self.chance(0.2):
            return structs.replace(finalization, view=finalization.view + 1_000)
        return finalization

    def _ask(self) -> BlocksRequest | ConsensusMessage:
        if self.chance(0.5):
            return BlocksRequest(self.random.choice((-1, 0, 1, 2**40)))
        return ConsensusMessage(self.epoch, Fetch(None, 1, self.random.choice((1, 100, 2**40))))
