"""A replica that votes for every block it hears of, in every view, at once and to the end, whatever it voted before."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from layer1.consensus.messages import Finalize, Notarize, Proposal
from layer1.crypto import Domain, digest
from layer1.header import BlockId
from layer1.replica.messages import ConsensusMessage
from tests.simulation.byzantine.role import Host, Role, read


class VotingTwice(Role):
    """Notarizes and finalizes everything; each hears first of votes for the block that it voted for itself."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._said: set[tuple[int, BlockId, int]] = set()
        """View, block and receiver: of two liars each would else answer every vote of the other's, without end."""

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, ConsensusMessage):
            inner = message.message
            if isinstance(inner, Notarize) and inner.replica == self.position_of(peer):
                self._vote(inner.view, inner.block, [peer])
            elif isinstance(inner, Proposal) and self.chance(0.5):
                self._vote(inner.vote.view, inner.vote.block, self.some_peers())
        return (data,)

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        is_vote = isinstance(message, ConsensusMessage) and isinstance(message.message, Notarize | Finalize)
        return () if is_vote and self.chance(0.5) else (data,)

    def _vote(self, view: int, block: BlockId, to: Iterable[int]) -> None:
        if self.chance(0.1):  # for a block that nobody has
            block = digest(Domain.HEADER, block)
        for receiver in to:
            if (view, block, receiver) in self._said:
                continue
            self._said.add((view, block, receiver))
            self.say(self.signer.notarize(view, block), [receiver])
            self.say(self.signer.finalize(view, block), [receiver])
