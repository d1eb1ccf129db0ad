"""Hosts the groups of one wallet: performs their effects over links and one journal.

Skeleton: the signatures are settled, the bodies follow.

Source: docs/design/architecture.md, "Packages and the direction of imports".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from layer1.crypto import Hash, PublicKey, SigningKey
from layer1.errors import RemoteError, WedgeError
from layer1.journal import Journal
from layer1.ledger import records
from layer1.ledger.agreements import GroupAgreement
from layer1.ledger.transactions import CloseGroup, Report, Wedge
from layer2 import events
from layer2.machine import StateMachine
from layer2.messages import OpeningMessage


@dataclass(frozen=True, slots=True)
class Contact:
    """Where another member is found."""

    key: PublicKey
    """Identity of its link; not its group key."""
    host: str = ""
    """Empty if only it can connect to us."""
    port: int = 0


@dataclass(frozen=True, slots=True)
class Receipt:
    """Our command is committed: this member durably holds the certificate (rule 3)."""

    number: int
    version: int


class Pending(WedgeError):
    """The fate of our command is not known yet. Do not retry it; the observer is told what becomes of it."""

    def __init__(self, group_id: Hash, number: int, message: str) -> None:
        super().__init__(message)
        self.group_id = group_id
        self.number = number


class Observer:
    """What the wallet wants to know. Called on the event loop, after the records are durable; must not block.

    After a restart :meth:`committed` is called again for every version since the last compaction: key what it
    stores by group and version.
    """

    def committed(self, group_id: Hash, event: events.Committed) -> None:
        """A version is committed, with its commands: the history."""

    def rejected(self, group_id: Hash, event: events.Rejected) -> None:
        """Our command was not applied and never will be, also if its `submit` is waited for."""

    def submission(self, group_id: Hash, payload: CloseGroup | Wedge | Report) -> None:
        """Bring this to layer 1."""

    def advice(self, group_id: Hash, event: events.Advice) -> None:
        """The group cannot go on by itself."""

    def frozen(self, group_id: Hash, reason: str) -> None:
        """The disk did not confirm: nothing is signed until the process is started again."""

    def finished(self, group_id: Hash, payouts: tuple[int, ...]) -> None:
        """Layer 1 has closed the group."""

    def misbehaved(self, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        """A peer broke the protocol; its message was dropped. A policy may wedge the group."""

    def connected(self, group_id: Hash, member: int, up: bool) -> None:
        """A member came into step, or its link is gone."""

    def opening(self, peer: PublicKey, message: OpeningMessage) -> None:
        """An offer, answer or decline; reply with :meth:`GroupHost.send_opening`."""


class GroupHost:
    """All groups of one wallet in one process."""

    def __init__(
        self,
        journal: Journal,
        key: SigningKey,
        chain_id: Hash,
        *,
        machines: Mapping[str, StateMachine],
        observer: Observer,
        group_key: Callable[[GroupAgreement, int], SigningKey],
    ) -> None:
        """Restore every group from the journal.

        Args:
            journal: Open and not replayed; of this host alone.
            key: Identity of our links.
            chain_id: The ledger's.
            machines: By name, for the agreements that may be hosted.
            observer: See there; it is called from here on.
            group_key: Our secret for an agreement and our index in it; secrets are never journaled.
        """
        raise NotImplementedError

    @property
    def groups(self) -> Mapping[Hash, Any]:
        """The :class:`layer2.group.Group` of each group, as of now."""
        raise NotImplementedError

    def add(
        self, agreement: GroupAgreement, group_id: Hash, index: int, key: SigningKey, contacts: Mapping[int, Contact]
    ) -> None:
        """Host a group that layer 1 has opened; durable on return. `contacts` are the other members, by index."""
        raise NotImplementedError

    def forget(self, group_id: Hash) -> None:
        """Drop a group that layer 1 closed; durable on return."""
        raise NotImplementedError

    async def submit(self, group_id: Hash, command: bytes) -> Receipt:
        """Issue a command and wait until its fate is known.

        Raises:
            Refused: It was not applied and never will be: ``insufficient_balance`` and whatever the machine says,
                ``not_connected``, ``group_closing``, ``group_wedged``, ``frozen``, ``unknown_group``.
            Pending: The link broke meanwhile: the observer is told later. Also when cancelled it may still happen.
        """
        raise NotImplementedError

    async def close_cooperatively(self, group_id: Hash) -> CloseGroup:
        """Finish what is in flight and agree on a FINAL (rule 7). Cancel it to stop waiting.

        Raises:
            Refused: ``not_connected``, ``group_wedged``, ``frozen`` or ``unknown_group``.
        """
        raise NotImplementedError

    def wedge(self, group_id: Hash) -> Wedge:
        """Stop the group for good and give what to bring to layer 1 (rule 8); the same again when repeated.

        Raises:
            Refused: ``lost_data``, ``frozen`` or ``unknown_group``.
        """
        raise NotImplementedError

    def observe(self, group: records.Group) -> Report | None:
        """Tell what layer 1 shows of a group, at every change and poll; gives what to bring to it, if anything."""
        raise NotImplementedError

    async def attach(self, link: Any) -> None:
        """Serve an authenticated link, inbound or outbound, until it closes."""
        raise NotImplementedError

    def send_opening(self, peer: PublicKey, message: OpeningMessage) -> bool:
        """Send to a connected wallet; False if there is no link to it."""
        raise NotImplementedError

    async def run(self) -> None:
        """Keep links to all contacts that have an address, with backoff, until cancelled."""
        raise NotImplementedError

    def compact(self) -> None:
        """Replace the journal by what is needed to go on. Make the history durable elsewhere first."""
        raise NotImplementedError

    def journal_bytes(self) -> int:
        """How long the journal is: when to compact."""
        raise NotImplementedError
