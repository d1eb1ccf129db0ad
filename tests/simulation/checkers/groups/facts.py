"""What is known of the groups of a run: by layer 1 after each block, and on the disks of honest members.

Layer 1's side comes from the straight replay of `checkers.reference`; a member's side from the records that it made
durable. Nothing here judges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256

from layer1.block import CommittedBlock
from layer1.codec import decode
from layer1.crypto import Hash, PublicKey
from layer1.ledger.agreements import Claim, Final, GroupHeader, Successor
from layer1.ledger.genesis import Genesis
from layer1.ledger.records import Group as LedgerGroup
from layer1.ledger.records import Reason, Status
from layer1.ledger.transactions import ChangeGroup, CloseGroup, Output, RegisterPreimages, Transaction
from layer2.events import Committed
from layer2.messages import Batch
from layer2.payments import Pay, read_command
from layer2.records import Certified, Claimed, FinalSigned, HostRecord, Signed
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference

OnLedger = Callable[[LedgerGroup | None, LedgerGroup], None]


EPOCH = 1 << 40
"""Versions of all epochs in one order: epoch times this, plus version. In epoch 0 it is the version."""


def ordinal(header: GroupHeader) -> int:
    """Of a version, over all epochs."""
    return header.epoch * EPOCH + header.version


@dataclass
class Member:
    """One honest member of one group: what its disk holds."""

    wallet: int
    index: int
    """In the agreement."""
    signed: dict[int, GroupHeader] = field(default_factory=dict)
    """By :func:`ordinal`, as all that follows."""
    batches: dict[int, Batch] = field(default_factory=dict)
    """What it signed turned the version before into this one."""
    certified: int = 0
    """Highest version of which it durably has all signatures."""
    told: dict[int, Committed] = field(default_factory=dict)
    """What it called committed."""
    final: Final | None = None
    claim: Claim | None = None
    knows_its_loss: bool = False
    """It was made anew from its phrase."""
    receipted: int | None = None
    """What watchtowers promised to report for one who sleeps and relies on them; None of one who watches itself."""

    @property
    def committed(self) -> int:
        """Newest version that it called committed; of one who sleeps, that its watchtowers have receipted [F6]."""
        told = max(self.told, default=0)
        return told if self.receipted is None else min(told, self.receipted)


@dataclass
class GroupFacts:
    """One group."""

    ledger: LedgerGroup
    honest: dict[int, Member]
    """By index in the agreement."""
    bereft: dict[int, Member] = field(default_factory=dict)
    """Likewise, honest members that lost data: what they knew, only others can know."""
    final: Final | None = None
    """The FINAL that closed it, if one did."""
    bases: list[int] = field(default_factory=list)
    """Of each epoch that is over, on which version it ended, by :func:`ordinal`."""
    change: Successor | None = None
    """What began the present epoch."""

    def applied(self, newest: int) -> Iterator[int]:
        """Versions that count for one who stands at `newest`: of all epochs, each up to its end."""
        for end in (*self.bases, newest):
            yield from range(end // EPOCH * EPOCH + 1, end + 1)

    @property
    def settled_version(self) -> int | None:
        """The version on which it was closed, by :func:`ordinal`; None while it is not."""
        if self.ledger.status is not Status.CLOSED:
            return None
        if self.ledger.reason is Reason.FINAL:
            assert self.final is not None, "a FINAL closed it"
            return self.final.epoch * EPOCH + self.final.base_version
        return ordinal(self.ledger.certificate.header)


def payments(batch: Batch) -> Iterator[tuple[int, Pay]]:
    """Who pays what, in a batch, at once."""
    for command in batch.commands:
        request = read_command(command.payload)
        if isinstance(request, Pay):
            yield command.member, request


class Facts(Checker):
    """All groups that have an honest member."""

    def __init__(
        self,
        genesis: Genesis,
        honest_replicas: Sequence[int],
        reference: Reference,
        owners: Mapping[PublicKey, int],
        honest: Sequence[int],
    ) -> None:
        """Begin with nothing.

        Args:
            genesis: Of the ledger.
            honest_replicas: By index.
            reference: The replay that all checkers share.
            owners: Wallets by spending account.
            honest: Wallets that follow the protocol.
        """
        super().__init__(genesis, honest_replicas, reference)
        self.groups: dict[Hash, GroupFacts] = {}
        self.clock_ms = 0
        """Of the newest block."""
        self.registered: dict[Hash, int] = {}
        """Of each preimage that layer 1 was ever shown: by hash, the clock of the first block that had it."""
        self.on_ledger: list[OnLedger] = []
        self._owners, self._honest = dict(owners), frozenset(honest)
        self._height = 0
        self._early: dict[Hash, list[tuple[int, HostRecord]]] = {}

    # ----------------------------------------------------------------------------------------------------- the members

    def owner(self, funding: PublicKey) -> int:
        """Whose account this is."""
        return self._owners[funding]

    def member(self, wallet: int, group_id: Hash) -> Member | None:
        """The honest wallet's side of a group that layer 1 has."""
        facts = self.groups.get(group_id)
        if facts is None:
            return None
        return next((member for member in facts.honest.values() if member.wallet == wallet), None)

    def note_records(self, wallet: int, records: Sequence[HostRecord]) -> None:
        """What a wallet made durable."""
        for record in records:
            member = self.member(wallet, record.group_id)
            if member is not None:
                self._note(member, record)
            elif record.group_id not in self.groups:  # the replica that showed it the group was the first
                self._early.setdefault(record.group_id, []).append((wallet, record))

    def is_pair(self, group_id: Hash) -> bool:
        """Whether a member's signature completes what the other one has signed; so it is as long as nobody knows."""
        facts = self.groups.get(group_id)
        return facts is None or len(facts.ledger.agreement.members) == 2

    def _note(self, member: Member, record: HostRecord) -> None:
        match record:
            case Signed(propose=propose):
                version = ordinal(propose.header)
                member.signed[version] = propose.header
                member.batches[version] = decode(propose.batch, Batch)
                if member.index != 0 and self.is_pair(record.group_id):
                    member.certified = max(member.certified, version)
            case Certified(version=version):  # of the version that it signed last
                member.certified = max(member.certified, max(member.signed) // EPOCH * EPOCH + version)
            case FinalSigned(final=final):
                member.final = final
            case Claimed(claim=claim):
                member.claim = claim
            case _:
                pass

    def lose_data(self, wallet: int, *, knows: bool) -> None:
        """An honest wallet lost what it knew; it knows that, or came back with an old copy and has yet to be told."""
        for facts in self.groups.values():
            for index, member in list(facts.honest.items()):
                if member.wallet == wallet:
                    facts.bereft[index] = facts.honest.pop(index)
                    member.knows_its_loss = knows

    def note_committed(self, wallet: int, group_id: Hash, event: Committed) -> None:
        """What a wallet called committed."""
        member = self.member(wallet, group_id)
        if member is not None:
            member.told[event.ordinal] = event

    # ------------------------------------------------------------------------------------------------------- layer 1

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        if block.header.height != self._height + 1 or self.reference.take(block) is None:
            return
        self._height = block.header.height
        self.executed(block.header.clock, block.transactions, block.outputs)

    def executed(self, clock_ms: int, transactions: Sequence[Transaction], outputs: Sequence[Output]) -> None:
        """What the newest block did; the reference has it."""
        self.clock_ms = clock_ms
        done = {output.transaction_id for output in outputs if output.code == "ok"}
        payloads = [each.payload for each in transactions if each.id in done]
        for preimage in (p for each in payloads if isinstance(each, RegisterPreimages) for p in each.preimages):
            self.registered.setdefault(sha256(preimage).digest(), clock_ms)
        finals = {p.final.group_id: p.final for p in payloads if isinstance(p, CloseGroup)}
        changes = {p.successor.group_id: p.successor for p in payloads if isinstance(p, ChangeGroup)}
        for output in outputs:
            if output.code == "ok" and output.group_id is not None and output.group_id not in self.groups:
                self._open(output.group_id)
        for group_id, facts in self.groups.items():
            before, after = facts.ledger, self.reference.state.group(group_id)
            assert after is not None, "groups do not go away"
            if after is before:
                continue
            facts.ledger = after
            if after.epoch > before.epoch:
                facts.change = changes[group_id]
                facts.bases.append(before.epoch * EPOCH + facts.change.base_version)
            facts.final = finals.get(group_id, facts.final)
            for listener in self.on_ledger:
                listener(before, after)

    def _open(self, group_id: Hash) -> None:
        group = self.reference.state.group(group_id)
        assert group is not None, "it was opened in this block"
        wallets = [self._owners.get(member.funding) for member in group.agreement.members]
        honest = {i: Member(w, i) for i, w in enumerate(wallets) if w is not None and w in self._honest}
        if honest:
            self.groups[group_id] = GroupFacts(group, honest)
            for wallet, record in self._early.pop(group_id, ()):
                self.note_records(wallet, [record])
            for listener in self.on_ledger:
                listener(None, group)
