"""The block under construction: what its transactions have changed so far, above the parent's state.

Safety: a transaction that is refused leaves the draft as it found it, and a finished draft holds as much money as its
parent.

Each verb checks everything, then changes everything: no refusal can come after the first change. Money moves only
between accounts and groups, and :meth:`Draft.finish` adds up what moved, over the touched records alone.

Source: docs/design/consensus.md, "Execution and state"; groups.md, rules 7 to 11.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Protocol

from msgspec import structs

from layer1.consensus.evidence import verify as verify_evidence
from layer1.crypto import PUBLIC_KEY_BYTES, Hash, PublicKey
from layer1.errors import LocalError, Refused, check
from layer1.ledger import appointments, changing, disputes, opening, settlement
from layer1.ledger.agreements import Member
from layer1.ledger.events import (
    AccountChanged,
    Event,
    GroupChanged,
    GroupClosed,
    GroupOpened,
    GroupReported,
    GroupWedged,
    LocksPaid,
    PreimageRegistered,
    ReplicaMarked,
    ReplicasChanged,
)
from layer1.ledger.genesis import MAX_MONEY
from layer1.ledger.locks import after_showing, bounded, check_preimages, pay_locks, preimage_hash
from layer1.ledger.records import ClosedLock, Group, Head, Mark, Registration, Status
from layer1.ledger.replicas import ChangeReplicas, apply_change
from layer1.ledger.settlement import short
from layer1.ledger.state import Changes, State
from layer1.ledger.store import member_name
from layer1.ledger.transactions import (
    Accusation,
    Appoint,
    ChangeGroup,
    CloseGroup,
    Command,
    OpenGroup,
    Plea,
    RegisterPreimages,
    Report,
    Reveal,
    Transfer,
    Wedge,
)
from layer1.statemachine import CommandView, check_command, run


class Step(Protocol):
    """From a group's record to its next one, or a refusal."""

    def __call__(self, group: Group, /, *, clock_ms: int) -> Group:
        """Pure: reads its arguments only."""
        ...


class Draft:
    """Mutable, used for one block, then turned into a view."""

    __slots__ = ("_accounts", "_before", "_groups", "_members", "changes", "clock_ms", "events", "parent")

    def __init__(self, parent: State, clock_ms: int) -> None:
        self.parent = parent
        self.clock_ms = clock_ms
        self.changes = Changes()
        self.events: list[Event] = []
        self._accounts = self.changes.accounts
        self._groups = self.changes.groups
        self._before: dict[PublicKey, int] = {}
        """Balances of touched accounts in the parent."""
        self._members: set[bytes] = set()
        """Names of the members of groups opened in this block."""

    def balance(self, address: PublicKey) -> int:
        """Minor units of an account, as of now."""
        found = self._accounts.get(address)
        if found is not None:
            return found
        found = self._before.get(address)
        if found is None:
            found = self._before[address] = self.parent.balance(address)
        return found

    def group(self, group_id: Hash) -> Group:
        """A group as of now.

        Raises:
            Refused: ``unknown_group``.
        """
        found = self._groups.get(group_id) or self.parent.group(group_id)
        if found is None:
            raise Refused("unknown_group", f"no group {short(group_id)}; its opening may not be final yet")
        return found

    def settle_due(self) -> None:
        """Do what deadlines that have come do, the earliest first, as many as one block takes (rule 11)."""
        most = self.parent.parameters.due_per_block
        due = list(islice(self.parent.due(self.clock_ms), most))
        for group in due:
            if group.status is Status.WEDGED:
                self._store_change(group, settlement.fall_due(group, self.clock_ms), None)
            else:
                self._pay_locks(group)
        for name in list(islice(self.parent.claimable(), most - len(due))):
            self._pay_locks(self.group(name))
        for hashed in list(islice(self.parent.forgettable(self.clock_ms), most)):
            self.changes.registrations[hashed] = None

    def transfer(self, request: Transfer) -> None:
        """Move money between two accounts."""
        sender, recipient, amount = request.sender, request.recipient, request.amount
        if not 1 <= amount <= MAX_MONEY:
            raise Refused("bad_amount", f"a transfer is of 1 to {MAX_MONEY} units, not {amount}")
        if len(recipient) != PUBLIC_KEY_BYTES:
            raise Refused("bad_recipient", f"a recipient of {len(recipient)} bytes; an account has {PUBLIC_KEY_BYTES}")
        if sender == recipient:
            raise Refused("bad_recipient", "sender and recipient are one account; nothing would move")
        balance = self.balance(sender)
        if balance < amount:
            raise Refused("insufficient_balance", f"account {short(sender)} has {balance} units, {amount} are needed")
        self._accounts[recipient] = self.balance(recipient) + amount
        self._accounts[sender] = balance - amount

    def open_group(self, request: OpenGroup, transaction_id: Hash) -> Hash:
        """Lock deposits and bonds, all or none."""
        parent, agreement = self.parent, request.agreement
        group = opening.open_group(agreement, transaction_id, parent.chain_id, parent.parameters, self.clock_ms)
        needed = opening.funding(agreement)
        self._check_funds(needed)
        self._check_fresh_keys(agreement.members)
        for address, units in needed.items():
            self._accounts[address] = self.balance(address) - units
        self._groups[group.group_id] = group
        self._members.update(map(member_name, agreement.members))
        self.events.append(GroupOpened(group.group_id, transaction_id))
        return group.group_id

    def change_group(self, request: ChangeGroup, transaction_id: Hash) -> Hash:
        """Begin a group's next epoch; what is paid in and out moves with it (rules 24 and 25)."""
        parent, successor = self.parent, request.successor
        before = self.group(successor.group_id)
        after = changing.change(before, request, parent.chain_id, parent.parameters, self.clock_ms)
        paid_in, paid_out = changing.added(successor.deposits), changing.added(successor.withdrawals)
        self._check_funds(paid_in)
        self._check_fresh_keys(changing.joining(before.agreement, after.agreement))
        for address, units in paid_in.items():
            self._accounts[address] = self.balance(address) - units
        for address, units in paid_out.items():
            self._accounts[address] = self.balance(address) + units
        self._groups[after.group_id] = after
        self._members.update(map(member_name, after.agreement.members))
        self.events.append(GroupChanged(after.group_id, transaction_id, after.epoch, after.agreement))
        return after.group_id

    def close_group(self, request: CloseGroup, transaction_id: Hash) -> Hash:
        """Pay out what all members signed (rule 7)."""
        return self._advance(request.final.group_id, transaction_id, partial(settlement.close, request=request))

    def wedge(self, request: Wedge, transaction_id: Hash) -> Hash:
        """Start the challenge period, or report to a running one (rule 8)."""
        return self._advance(request.claim.group_id, transaction_id, partial(disputes.wedge, request=request))

    def report(self, request: Report, transaction_id: Hash) -> Hash:
        """Bring something new to a dispute (rule 9)."""
        return self._advance(request.group_id, transaction_id, partial(disputes.report, request=request))

    def plead(self, request: Plea, transaction_id: Hash) -> Hash:
        """Stop a group, or join its dispute, as a member that may have lost data (rule 13)."""
        return self._advance(request.plea.group_id, transaction_id, partial(disputes.plead, plea=request.plea))

    def reveal(self, request: Reveal, transaction_id: Hash) -> Hash:
        """Bring the body that is missing (rule 12)."""
        return self._advance(request.group_id, transaction_id, partial(disputes.reveal, body=request.body))

    def mark(self, request: Accusation, transaction_id: Hash) -> None:
        """Mark a replica that contradicted itself, once. Whether it is marked is looked at before any signature.

        Votes of an epoch that is over count, too, if their key is in the set of today (decision 029).
        """
        evidence, voters = request.evidence, self.parent.voters
        place = evidence.replica
        if 0 <= place < len(voters.replicas):
            self._check_not_marked(voters.replicas[place])
        cast_in = min(max(evidence.epoch, 0), voters.epoch)
        verify_evidence(evidence, replace(voters, epoch=cast_in))
        seat = self.parent.replica_set.seats[place]
        key = seat.key
        mark = Mark(key, cast_in, seat.number, evidence.kind, evidence.id, transaction_id, self.clock_ms)
        self.changes.marks[key] = mark
        self.events.append(ReplicaMarked(mark))

    def register(self, request: RegisterPreimages, transaction_id: Hash) -> None:
        """Let the ledger know preimages, or keep them for longer.

        Locks that wait for them are paid as due work of the blocks that follow.
        """
        check_preimages(request.preimages)
        known = self.balance(request.sender) > 0 or self.parent.is_named(request.sender)
        name = short(request.sender)
        check(known, "empty_account", f"account {name} has 0 units and is in no group: whoever registers has some")
        for preimage in request.preimages:
            hashed = preimage_hash(preimage)
            before = self._registration(hashed)
            after = after_showing(before, preimage, self.clock_ms, self.parent.parameters.renew_after_ms)
            if after is not before:
                self.changes.registrations[hashed] = after
            if before is None:
                self.events.append(PreimageRegistered(hashed, transaction_id))

    def appoint(self, request: Appoint) -> None:
        """Let a process act for an account."""
        account = request.account
        current: Head | None = self.changes.heads.get(account) or self.parent.appointed(account)
        self.changes.heads[account] = appointments.appoint(current, request, self.balance(account))

    def change_replicas(self, request: ChangeReplicas, transaction_id: Hash) -> None:
        """Let another replica set certify what follows this block."""
        current, p = self.parent.replica_set, self.parent.parameters
        if self.changes.replica_set is not None:  # a handover leads from one epoch to the next
            raise Refused("wrong_epoch", f"this block ends epoch {current.epoch} already; bring it again after it")
        following = apply_change(current, request, self.parent.chain_id, self.clock_ms)
        for key in request.change.add:
            mark = self.changes.marks.get(key) or self.parent.mark(key)
            check(mark is None, "replica_marked", f"key {key.hex()} contradicted itself once; nobody trusts it again")
        needed = p.heartbeat_ms + (following.faults + 1) * p.view_timeout_ms
        check(
            p.max_step_ms >= needed,
            "max_step_too_small",
            f"the genesis has max_step_ms {p.max_step_ms}; {len(following.seats)} replicas need heartbeat + (f+1) view "
            f"timeouts = {needed}: add fewer",
        )
        self.changes.replica_set = following
        self.events.append(ReplicasChanged(transaction_id, following))

    def command(self, request: Command) -> str:
        """Have the state machine do something; its answer."""
        machine = check_command(self.parent.machine, request.sender, self.balance(request.sender))
        view = CommandView(self._value)
        answer = run(machine, view, request.sender, request.data, self.clock_ms)
        self.changes.values.update(view.written)
        return answer

    def finish(self, wall_time: int) -> State:
        """The view of this block.

        Raises:
            LocalError: Money appeared or vanished; the ledger has a bug and must not go on.
        """
        self._audit()
        for address, balance in self._accounts.items():
            if balance != self._before[address]:
                self.events.append(AccountChanged(address, balance))
        return self.parent.child(self.changes, self.clock_ms, wall_time)

    def _value(self, place: Hash) -> bytes | None:
        values = self.changes.values
        return values[place] if place in values else self.parent.value(place)

    def _check_not_marked(self, key: PublicKey) -> None:
        found = self.changes.marks.get(key) or self.parent.mark(key)
        if found is not None:
            raise Refused(
                "already_marked",
                f"replica {found.number} is marked since transaction {found.transaction_id.hex()}; one mark is all "
                "there is",
            )

    def _advance(self, group_id: Hash, transaction_id: Hash, step: Step) -> Hash:
        before = self.group(group_id)
        self._store_change(before, step(before, clock_ms=self.clock_ms), transaction_id)
        return group_id

    def _registration(self, hashed: Hash) -> Registration | None:
        changed = self.changes.registrations
        return changed[hashed] if hashed in changed else self.parent.registration(hashed)

    def _pay_locks(self, group: Group) -> None:
        """Pay what is certain of a closed group's pending locks (rule 21)."""
        after = pay_locks(group.locks, self._registration, self.clock_ms)
        paid = tuple(each for each in after if each.paid_to is not None and each not in group.locks)
        if not paid:
            return
        self._groups[group.group_id] = structs.replace(group, locks=after)
        self._credit_locks(group, paid)
        self.events.append(LocksPaid(group.group_id, group.version, paid))

    def _credit_locks(self, group: Group, paid: Iterable[ClosedLock]) -> None:
        for each in paid:
            if each.paid_to is not None:
                account = group.agreement.members[each.paid_to].payout
                self._accounts[account] = self.balance(account) + each.lock.amount

    def _store_change(self, before: Group, after: Group, transaction_id: Hash | None) -> None:
        if after.locks:
            locks = bounded(after.locks, self.clock_ms + self.parent.parameters.max_lock_ms)
            after = structs.replace(after, locks=pay_locks(locks, self._registration, self.clock_ms))
        self._groups[after.group_id] = after
        if before.status is Status.OPEN and after.status is Status.WEDGED:
            self.events.append(_wedged(after, transaction_id))
        elif (report := _reported(before, after, transaction_id)) is not None:
            self.events.append(report)
        if after.status is Status.CLOSED:
            self._pay_out(after, transaction_id)

    def _pay_out(self, group: Group, transaction_id: Hash | None) -> None:
        for member, units in zip(group.agreement.members, group.payouts, strict=True):
            if units:
                self._accounts[member.payout] = self.balance(member.payout) + units
        for bounty in group.bounties:
            self._accounts[bounty.account] = self.balance(bounty.account) + bounty.units
        self._credit_locks(group, group.locks)
        assert group.reason is not None, "a closed group has a reason"
        paid = (group.payouts, group.bounties, group.locks)
        self.events.append(GroupClosed(group.group_id, transaction_id, group.reason, group.version, *paid))

    def _check_funds(self, needed: Mapping[PublicKey, int]) -> None:
        for address, units in needed.items():
            balance = self.balance(address)
            if balance < units:
                raise Refused(
                    "insufficient_balance", f"account {address.hex()} has {balance} units, {units} are needed"
                )

    def _check_fresh_keys(self, members: Iterable[Member]) -> None:
        """Keys are made for one group. Judged with the funding account: else anybody could use up another's key."""
        for member in members:
            used = member_name(member) in self._members or self.parent.is_member(member)
            check(not used, "key_in_use", f"key {member.key.hex()} serves another group; make a new one for each")

    def _audit(self) -> None:
        moved = sum(balance - self._before[address] for address, balance in self._accounts.items())
        for name, group in self._groups.items():
            before = self.parent.group(name)
            moved += group.locked_units - (before.locked_units if before is not None else 0)
        if moved:
            raise LocalError(f"the block at clock {self.clock_ms} changes all money by {moved} units, not by 0")


def _wedged(group: Group, transaction_id: Hash | None) -> GroupWedged:
    assert transaction_id is not None
    assert group.wedged_by is not None
    return GroupWedged(group.group_id, transaction_id, group.wedged_by, group.version, group.deadline_ms)


def _reported(before: Group, after: Group, transaction_id: Hash | None) -> GroupReported | None:
    claimed = tuple(i for i, claim in enumerate(after.claims) if claim is not before.claims[i])
    forfeited = tuple(i for i, why in enumerate(after.forfeits) if why is not before.forfeits[i])
    told = GroupReported(
        after.group_id, transaction_id, after.version, claimed, forfeited, after.deadline_ms, after.revealing
    )
    if after.status is Status.CLOSED and not (claimed or forfeited or after.version > before.version):
        return None  # its closing says it all
    return told
