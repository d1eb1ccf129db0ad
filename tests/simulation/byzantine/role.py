"""What a role may do: see and change what its core hears and says, and speak on its own."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Protocol

from layer1.codec import decode, encode
from layer1.consensus.certificates import Signer
from layer1.consensus.config import Config
from layer1.consensus.messages import Message, Proposal
from layer1.crypto import SigningKey
from layer1.errors import RemoteError
from layer1.header import Header
from layer1.ledger.replicas import ReplicaSet
from layer1.replica.core import ReplicaCore
from layer1.replica.messages import ConsensusMessage, LinkMessage
from tests.simulation.disk import Disk
from tests.simulation.kernel import World


class Host(Protocol):
    """The process that a role sits in."""

    world: World
    index: int
    key: SigningKey
    disk: Disk

    @property
    def config(self) -> Config:
        """Of the newest epoch that it was in."""

    @property
    def replica_set(self) -> ReplicaSet:
        """Likewise."""

    @property
    def peers(self) -> tuple[int, ...]:
        """Numbers of all whom it may have a link with."""

    def transmit(self, peer: int | None, data: bytes) -> None:
        """Send to one replica or to all, at once."""

    def kill(self) -> None:
        """The process dies."""

    def start(self) -> None:
        """It comes back."""


class Role:
    """An honest replica, which roles make worse."""

    def __init__(self, host: Host, random: Random) -> None:
        self.host = host
        self.random = random
        self.peers = host.peers
        self._signer: tuple[int, Signer] | None = None

    @property
    def epoch(self) -> int:
        """The newest that it was in."""
        return self.host.config.epoch

    @property
    def position(self) -> int:
        """In the set of that epoch; where nobody is if it is not in there."""
        found = self.position_of(self.host.index)
        return len(self.host.config.replicas) if found is None else found

    def position_of(self, peer: int) -> int | None:
        """Where a replica stands in that set."""
        return self.host.replica_set.position_of(peer)

    @property
    def signer(self) -> Signer:
        """Signs votes of that epoch with its key, in it or not."""
        if self._signer is None or self._signer[0] != self.epoch:
            self._signer = self.epoch, Signer(self.host.config, self.host.key, self.position)
        return self._signer[1]

    @property
    def name(self) -> str:
        """For reports."""
        return type(self).__name__

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        """What really leaves for this peer when the core sends this to it."""
        return (data,)

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        """What the core gets to see of a message."""
        return (data,)

    def twist(self, core: ReplicaCore) -> None:
        """Its core has just begun to run: give it other wishes."""

    def generation(self, real: int) -> int:
        """What it says of its journal's generation."""
        return real

    def begin(self) -> None:
        """The run starts."""

    def say(self, message: Message, to: Iterable[int] | None = None) -> None:
        """Send a consensus message of one's own to these peers, or to all."""
        self.send(ConsensusMessage(self.epoch, message), to)

    def send(self, message: LinkMessage, to: Iterable[int] | None = None) -> None:
        """Send a message of one's own to these peers, or to all."""
        data = encode(message)
        for peer in self.peers if to is None else to:
            self.host.transmit(peer, data)

    def some_peers(self) -> frozenset[int]:
        """Some peers, at least one."""
        return frozenset(self.random.sample(self.peers, self.random.randint(1, len(self.peers))))

    def chance(self, part: float) -> bool:
        """True in this part of the cases."""
        return self.random.random() < part

    def own_proposal(self, message: LinkMessage | None) -> Proposal | None:
        """The proposal in a message, if it is this replica's."""
        if isinstance(message, ConsensusMessage) and isinstance(message.message, Proposal):
            proposal = message.message
            return proposal if proposal.vote.replica == self.position else None
        return None

    def propose(self, proposal: Proposal, header: Header) -> Proposal:
        """The same with another header, properly signed."""
        return Proposal(header, proposal.batches, self.signer.notarize(header.view, header.id), proposal.justification)


def read(data: bytes) -> LinkMessage | None:
    """The message in these bytes, if there is one."""
    try:
        message: LinkMessage = decode(data, LinkMessage)  # type: ignore[arg-type]  # a union is not a type
    except RemoteError:
        return None
    return message
