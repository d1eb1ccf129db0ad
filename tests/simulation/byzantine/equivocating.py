"""A leader that proposes two valid blocks in one view, each to some, serves whichever is asked for, and votes for both.

The second block is the first a millisecond later: executing it gives the same roots, so nothing of it is invalid.
"""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from msgspec import structs

from layer1.codec import encode
from layer1.consensus.messages import Fetch, Finalize, Notarize, Proposal
from layer1.header import BlockId
from layer1.replica.messages import ConsensusMessage, LinkMessage
from tests.simulation.byzantine.role import Host, Role, read


class Equivocating(Role):
    """Two blocks in each of its views."""

    def __init__(self, host: Host, random: Random) -> None:
        super().__init__(host, random)
        self._others: dict[BlockId, tuple[Proposal, frozenset[int]]] = {}
        """By the real block: the other one, and who gets that."""
        self._by_id: dict[BlockId, Proposal] = {}

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        proposal = self.own_proposal(message)
        if proposal is not None:
            other, receivers = self._other(proposal)
            self.host.world.stats["equivocations"] += 1
            both = self.chance(0.1)
            if both or peer not in receivers:
                yield data
            if both or peer in receivers:
                yield encode(ConsensusMessage(self.epoch, other))
            return
        yield self._two_faced(peer, message) or data

    def _two_faced(self, peer: int, message: LinkMessage | None) -> bytes | None:
        """Who got the other block gets votes for that: of two votes that contradict each other the first counts."""
        if not isinstance(message, ConsensusMessage) or not isinstance(message.message, Notarize | Finalize):
            return None
        vote = message.message
        other, receivers = self._others.get(vote.block, (None, frozenset[int]()))
        if other is None or vote.replica != self.position or peer not in receivers:
            return None
        finalize = self.signer.finalize(other.vote.view, other.vote.block)
        return encode(ConsensusMessage(self.epoch, other.vote if isinstance(vote, Notarize) else finalize))

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        message = read(data)
        if isinstance(message, ConsensusMessage) and isinstance(message.message, Fetch):
            wanted = self._by_id.get(message.message.block or b"")
            if wanted is not None:
                self.say(wanted, [peer])
        return (data,)

    def _other(self, proposal: Proposal) -> tuple[Proposal, frozenset[int]]:
        block = proposal.vote.block
        if block not in self._others:
            header = proposal.header
            later = structs.replace(header, wall_time=header.wall_time + 1, clock=header.clock + 1)
            other = self.propose(proposal, later)
            self._others[block] = other, self.some_peers()
            self._by_id[other.vote.block] = other
        return self._others[block]
