"""What a dishonest wallet may do: change and hold back what its honest half says and hears, and sign on its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random
from typing import Any, Protocol

from msgspec.structs import replace

from layer1.codec import encode
from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import Body, Certificate, Claim, sign_claim, sign_state
from layer1.ledger.transactions import Wedge
from layer2.events import Payload
from layer2.messages import Batch, GroupMessage, Propose
from layer2.records import HostRecord
from layer2.state import Outcome, advance
from layer2.value import Group
from tests.simulation.kernel import World
from wallet.keystore import HotKeys


class Host(Protocol):
    """The wallet that a role sits in."""

    world: World
    index: int
    keys: HotKeys
    home: Any
    """Its `Home`, of whatever kind."""
    gone: bool

    def groups(self) -> dict[Hash, Group]:
        """What its honest half hosts; empty while it does not run."""

    def say(self, peer: int, data: bytes) -> None:
        """Send to another wallet."""

    def bring(self, payload: Payload) -> None:
        """Bring to layer 1."""

    def wallet_of(self, funding: PublicKey) -> int | None:
        """Whose account this is."""

    def kill(self) -> None:
        """End the process."""

    def start(self) -> None:
        """Begin the next life."""


States = dict[int, tuple[Certificate, Body]]
"""By version."""


class Role:
    """An honest wallet, which roles make worse."""

    def __init__(self, host: Host, random: Random) -> None:
        self.host = host
        self.random = random
        self.known: dict[Hash, States] = {}
        """All certified states that its honest half ever held, by group: an archive for lies."""
        self.seen: dict[Hash, Group] = {}
        """The newest that is known of each group."""

    @property
    def name(self) -> str:
        """For reports."""
        return type(self).__name__

    def outgoing(self, peer: int, data: bytes) -> Iterable[bytes]:
        """What really leaves for this wallet when the honest half says this."""
        return (data,)

    def incoming(self, peer: int, data: bytes) -> Iterable[bytes]:
        """What the honest half gets to see."""
        return (data,)

    def brings(self, payload: Payload) -> bool:
        """Whether it brings to layer 1 what its honest half wants there."""
        return True

    def synced(self, records: Sequence[HostRecord]) -> None:
        """Its honest half made these durable."""
        self.remember()

    def remember(self) -> None:
        """Put what the honest half holds now into the archive."""
        for group_id, group in self.host.groups().items():
            self.seen[group_id] = group
            states = self.known.setdefault(group_id, {})
            for state, certificate in ((group.state, group.certificate), group.best):
                states[state.version] = (certificate, state.body)

    def old_version(self, group_id: Hash) -> int:
        """A version of the archive, likely an old one."""
        return min(self.random.choices(sorted(self.known[group_id]), k=2))

    def wedge(self, group_id: Hash, version: int) -> Wedge:
        """Of that version, with a CLAIM that nothing above it was ever signed."""
        certificate, body = self.known[group_id][version]
        return Wedge(certificate, body, self.claim(group_id, certificate))

    def claim(self, group_id: Hash, certificate: Certificate) -> Claim:
        """A CLAIM of this certificate, true or not."""
        place, header = self.seen[group_id].place, certificate.header
        return sign_claim(place.key, place.index, header.version, header)

    def propose(self, message: Propose, batch: Batch, salt: bytes, outcome: Outcome) -> Propose:
        """This proposal with another batch, salt and outcome, signed; the same if its base is not the newest."""
        group, encoded = self.seen[message.group_id], encode(batch)
        place, base = group.place, group.state
        if message.header.parent != base.header.hash:
            return message
        header = advance(place, base, batch, encoded=encoded, salt=salt, outcome=outcome).header
        changed = {"batch": encoded, "salt": salt, "signature": sign_state(place.key, header)}
        return replace(message, header=header, **changed)

    def peer_of(self, group_id: Hash) -> int | None:
        """The other member's wallet."""
        return self.host.wallet_of(self.seen[group_id].place.agreement.members[self.seen[group_id].others[0]].funding)

    def act(self) -> None:
        """Do something on its own; called now and then while it runs."""

    def say(self, peer: int, message: GroupMessage) -> None:
        """Send a message of one's own."""
        self.host.say(peer, encode(message))
