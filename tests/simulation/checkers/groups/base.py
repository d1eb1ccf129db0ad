"""What checkers of groups hear. They judge honest wallets only, given by index, and groups with an honest member."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from layer1.crypto import Hash, PublicKey
from layer1.errors import RemoteError
from layer1.ledger.agreements import Lock
from layer1.ledger.records import Group as LedgerGroup
from layer2.events import Committed, Payload, Rejected
from layer2.messages import Message
from layer2.records import HostRecord
from layer2.value import Group
from tests.simulation.checkers.groups.facts import Facts
from wallet.lock_news import Ended


class GroupViolation(AssertionError):
    """A property of groups does not hold."""

    def __init__(self, checker: GroupChecker, message: str) -> None:
        super().__init__(f"{checker.name}: {message}")


class GroupChecker:
    """One property; overrides what it wants to hear of."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts

    @property
    def name(self) -> str:
        """For reports."""
        return type(self).__name__

    def fail(self, message: str) -> None:
        """The property is broken."""
        raise GroupViolation(self, message)

    def synced(self, wallet: int, records: Sequence[HostRecord]) -> None:
        """These journal records of a wallet are durable."""

    def sent(self, wallet: int, peer: int, message: Message) -> None:
        """A wallet says this to another."""

    def committed(self, wallet: int, group_id: Hash, event: Committed) -> None:
        """A wallet's host says that a version is committed."""

    def rejected(self, wallet: int, group_id: Hash, event: Rejected) -> None:
        """A wallet's host says that a command of its own never applied, and never will."""

    def issued(self, wallet: int, group_id: Hash, memo: str, amount: int) -> None:
        """A user asks its wallet to pay; memos are unique in a run."""

    def acknowledged(self, wallet: int, group_id: Hash, memo: str) -> None:
        """The wallet says that this is paid."""

    def refused(self, wallet: int, group_id: Hash, memo: str) -> None:
        """The wallet says that this is not paid, and never will be."""

    def offering(self, wallet: int, group_id: Hash, amount: int, hashed: Hash) -> None:
        """A user asks its wallet to lock so much for the peer."""

    def claiming(self, wallet: int, group_id: Hash, lock: Lock) -> None:
        """A wallet durably holds the preimage of a lock that its user claims."""

    def shown(self, wallet: int, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        """A wallet tells its user the preimage of a lock of its own."""

    def ended(self, wallet: int, group_id: Hash, ended: Ended) -> None:
        """A wallet tells its user what became of a lock, for certain."""

    def misbehaved(self, wallet: int, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        """A wallet says that another broke the protocol."""

    def brought(self, wallet: int, payload: Payload) -> None:
        """A wallet brings this to layer 1."""

    def restored(self, wallet: int, groups: Mapping[Hash, Group]) -> None:
        """A wallet came back from its disk, with these groups."""

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        """A final block changed what layer 1 shows of a group."""

    def healed(self, clock_ms: int) -> None:
        """From now on all networks are good, honest processes run, and users end what they have."""

    def finish(self) -> None:
        """The run is over."""


class GroupCheckers(GroupChecker):
    """All of them."""

    def __init__(self, checkers: Sequence[GroupChecker]) -> None:
        super().__init__(checkers[0].facts)
        self.all = tuple(checkers)

    def synced(self, wallet: int, records: Sequence[HostRecord]) -> None:
        self.facts.note_records(wallet, records)
        for each in self.all:
            each.synced(wallet, records)

    def sent(self, wallet: int, peer: int, message: Message) -> None:
        for each in self.all:
            each.sent(wallet, peer, message)

    def committed(self, wallet: int, group_id: Hash, event: Committed) -> None:
        self.facts.note_committed(wallet, group_id, event)
        for each in self.all:
            each.committed(wallet, group_id, event)

    def rejected(self, wallet: int, group_id: Hash, event: Rejected) -> None:
        for each in self.all:
            each.rejected(wallet, group_id, event)

    def issued(self, wallet: int, group_id: Hash, memo: str, amount: int) -> None:
        for each in self.all:
            each.issued(wallet, group_id, memo, amount)

    def acknowledged(self, wallet: int, group_id: Hash, memo: str) -> None:
        for each in self.all:
            each.acknowledged(wallet, group_id, memo)

    def refused(self, wallet: int, group_id: Hash, memo: str) -> None:
        for each in self.all:
            each.refused(wallet, group_id, memo)

    def offering(self, wallet: int, group_id: Hash, amount: int, hashed: Hash) -> None:
        for each in self.all:
            each.offering(wallet, group_id, amount, hashed)

    def claiming(self, wallet: int, group_id: Hash, lock: Lock) -> None:
        for each in self.all:
            each.claiming(wallet, group_id, lock)

    def shown(self, wallet: int, group_id: Hash, lock: Lock, preimage: bytes) -> None:
        for each in self.all:
            each.shown(wallet, group_id, lock, preimage)

    def ended(self, wallet: int, group_id: Hash, ended: Ended) -> None:
        for each in self.all:
            each.ended(wallet, group_id, ended)

    def misbehaved(self, wallet: int, group_id: Hash | None, peer: PublicKey, error: RemoteError) -> None:
        for each in self.all:
            each.misbehaved(wallet, group_id, peer, error)

    def brought(self, wallet: int, payload: Payload) -> None:
        for each in self.all:
            each.brought(wallet, payload)

    def restored(self, wallet: int, groups: Mapping[Hash, Group]) -> None:
        for each in self.all:
            each.restored(wallet, groups)

    def on_ledger(self, before: LedgerGroup | None, after: LedgerGroup) -> None:
        for each in self.all:
            each.on_ledger(before, after)

    def healed(self, clock_ms: int) -> None:
        for each in self.all:
            each.healed(clock_ms)

    def finish(self) -> None:
        for each in self.all:
            each.finish()
