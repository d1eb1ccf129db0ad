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
from layer1.replica.core import ReplicaCore
from layer1.replica.messages import ConsensusMessage, LinkMessage
from tests.simulation.disk import Disk
from tests.simulation.kernel import World


class Host(Protocol):
    """The process that a role sits in."""

    world: World
    index: int
    key: SigningKey
    config: Config
    disk: Disk

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
        self.signer = Signer(host.config, host.key, host.index)
        self.peers = tuple(peer for peer in range(len(host.config.replicas)) if peer != host.index)

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
        self.send(ConsensusMessage(0, message), to)

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
            return proposal if proposal.vote.replica == self.host.index else None
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
