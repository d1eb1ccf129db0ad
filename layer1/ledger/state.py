"""The ledger's state as views: a block's view lies above its parent's, and the base below holds what is final.

A view holds what its block changed and the root of its tree; a reader sees the newest change on the way down, then
the base. :meth:`State.commit` moves a final view and its ancestors into the base. Siblings of a committed view are
dropped by forgetting them.

Safety: a view never shows another chain than its own.

Views are never changed after :func:`layer1.ledger.execute.execute` made them. The base belongs to the one committed
head: whatever does not descend from it finds the way down ending elsewhere, and raises rather than mix two chains.
Memory and time follow the keys that blocks touch, times the few blocks that are not final yet.

Source: docs/design/consensus.md, "Execution and state".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from heapq import merge
from itertools import groupby, islice

from layer1 import merkle
from layer1.codec import Struct
from layer1.consensus.evidence import Voters
from layer1.crypto import Hash, PublicKey
from layer1.errors import LocalError
from layer1.ledger.agreements import Member
from layer1.ledger.genesis import Genesis, Parameters, genesis_tree, validate
from layer1.ledger.image import Records, StateImage
from layer1.ledger.locks import is_timely
from layer1.ledger.records import (
    REMEMBERED_KEY,
    REPLICA_SET_KEY,
    Account,
    Group,
    Head,
    Mark,
    Reason,
    Registration,
    Status,
    account_key,
    group_key,
    head_key,
    leaf_hash,
    machine_key,
    mark_key,
    preimage_key,
)
from layer1.ledger.remembered import NONE, SECOND_MS, Lots
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.store import Store, index_keys, member_name
from layer1.statemachine import StateMachine

__all__ = [
    "REPLICA_SET_KEY",
    "Account",
    "Changes",
    "Group",
    "Head",
    "Mark",
    "Reason",
    "Snapshot",
    "State",
    "Status",
    "account_key",
    "group_key",
    "head_key",
    "leaf_hash",
    "machine_key",
    "mark_key",
]

PAGE = 100
"""Groups in one page, unless asked otherwise."""


@dataclass(slots=True)
class Changes:
    """What one block does to the records; empty for a heartbeat."""

    accounts: dict[PublicKey, int] = field(default_factory=dict)
    """New balances, minor units; 0 for an account that was emptied."""
    groups: dict[Hash, Group] = field(default_factory=dict)
    ids: dict[Hash, int] = field(default_factory=dict)
    """Executed transactions and their `valid_until_ms`."""
    marks: dict[PublicKey, Mark] = field(default_factory=dict)
    """By the replica's key."""
    replica_set: ReplicaSet | None = None
    """Who certifies what follows the block, if that changes."""
    values: dict[Hash, bytes | None] = field(default_factory=dict)
    """Of the state machine, by place in the tree; None for one that is no more."""
    heads: dict[PublicKey, Head] = field(default_factory=dict)
    """By account."""
    registrations: dict[Hash, Registration | None] = field(default_factory=dict)
    """Preimages by SHA-256; None for one that is forgotten."""


class Snapshot(Struct):
    """Everything in one state: enough to execute the next block, and checked by the root that it must hash to."""

    height: int
    clock: int
    wall_time: int
    accounts: tuple[tuple[PublicKey, int], ...]
    """(address, minor units), in order of address."""
    groups: tuple[Group, ...]
    """In order of id."""
    lots: tuple[tuple[int, tuple[Hash, ...]], ...]
    """(number, ids in order of execution) of what is remembered, in order; see `layer1.ledger.remembered`."""
    marks: tuple[Mark, ...] = ()
    """In order of the replicas' keys."""
    replica_set: ReplicaSet | None = None
    """Who certifies the next block; None for the set of genesis."""
    values: tuple[tuple[Hash, bytes], ...] = ()
    """(place in the tree, value) of the state machine, in order."""
    heads: tuple[Head, ...] = ()
    """In order of their accounts."""
    registrations: tuple[Registration, ...] = ()
    """In order of their hashes."""


class State:
    """The ledger after one block. Made by :meth:`genesis`, :meth:`restore` and ``execute``; immutable from outside."""

    __slots__ = (
        "_changes",
        "_head",
        "_lots",
        "_opened",
        "_parent",
        "_store",
        "_tree",
        "chain_id",
        "clock",
        "height",
        "machine",
        "parameters",
        "replica_set",
        "wall_time",
    )

    chain_id: Hash
    parameters: Parameters
    machine: StateMachine | None
    """What executes commands; None if the genesis names none."""
    replica_set: ReplicaSet
    """Who certifies the next block of the ledger."""
    height: int
    clock: int
    """Ledger clock, ms."""
    wall_time: int
    """Of the block's header, ms since 1970."""
    _changes: Changes
    """What this block changed; empty once committed."""
    _opened: dict[bytes, list[Hash]]
    """Groups that this block opened or changed, by `index_keys`."""
    _lots: Lots
    """Remembered transactions, those of this block and of all below."""
    _tree: merkle.Tree
    _parent: State | None
    """None for a committed view."""
    _store: Store
    """The base, shared by all views."""
    _head: list[State]
    """The committed head, shared by all views: one item."""

    @classmethod
    def genesis(cls, genesis: Genesis, machine: StateMachine | None = None) -> State:
        """The committed state of block 0.

        Raises:
            Refused: The genesis is not valid.
            LocalError: It names another machine.
        """
        validate(genesis)
        store = Store(0)
        store.absorb({a.address: a.amount for a in genesis.allocations}, {}, {}, 0)
        return cls._base(genesis, store, genesis_tree(genesis), (0, 0, genesis.wall_time), machine)

    @classmethod
    def restore(cls, genesis: Genesis, snapshot: Snapshot, machine: StateMachine | None = None) -> State:
        """The committed state that a snapshot describes. Compare `root` with a finalized header before using it."""
        groups = {group.group_id: group for group in snapshot.groups}
        marks = {mark.replica: mark for mark in snapshot.marks}
        lots = {number: list(ids) for number, ids in snapshot.lots}
        heads = {head.account: head for head in snapshot.heads}
        registrations = {each.hash: each for each in snapshot.registrations}
        values = dict(snapshot.values)
        records = Records(
            dict(snapshot.accounts), groups, lots, marks, snapshot.replica_set, values, heads, registrations
        )
        return cls.assemble(genesis, records, (snapshot.height, snapshot.clock, snapshot.wall_time), machine)

    @classmethod
    def assemble(
        cls, genesis: Genesis, records: Records, position: tuple[int, int, int], machine: StateMachine | None = None
    ) -> State:
        """The committed state of these records at (height, clock, wall time).

        Compare `root` with a finalized header before using it.

        Raises:
            LocalError: The genesis names another machine.
        """
        store, marks, clock = Store(position[1]), records.marks, position[1]
        ids = {name: number * SECOND_MS for number, names in records.lots.items() for name in names}
        store.absorb(
            records.accounts,
            records.groups,
            ids,
            clock,
            marks,
            values=records.values,
            heads=records.heads,
            registrations=records.registrations,
        )
        replica_set, lots = records.replica_set or genesis.replica_set, Lots.of(records.lots)
        leaves = _leaves(records.accounts, records.groups, marks)
        leaves |= _value_leaves(records.values) | _head_leaves(records.heads)
        leaves |= _preimage_leaves(records.registrations)
        tree = merkle.EMPTY.update({**leaves, REPLICA_SET_KEY: replica_set.hash, REMEMBERED_KEY: lots.root})
        state = cls._base(genesis, store, tree, position, machine)
        state.replica_set, state._lots = replica_set, lots
        return state

    @classmethod
    def _base(
        cls,
        genesis: Genesis,
        store: Store,
        tree: merkle.Tree,
        position: tuple[int, int, int],
        machine: StateMachine | None,
    ) -> State:
        check_named(genesis, machine)
        state = cls()
        state.machine = machine
        state.chain_id, state.parameters, state.replica_set = genesis.chain_id, genesis.parameters, genesis.replica_set
        state.height, state.clock, state.wall_time = position
        state._store, state._tree, state._parent, state._lots = store, tree, None, NONE
        state._changes, state._opened = Changes(), {}
        state._head = [state]
        return state

    def child(self, changes: Changes, clock_ms: int, wall_time: int, *, forgets: bool = True) -> State:
        """The view of a block above this one. `changes` belongs to the view from here on.

        Args:
            changes: What the block does.
            clock_ms: Its ledger clock.
            wall_time: Of its header, ms since 1970.
            forgets: Whether transactions that are past their life spans are forgotten; if not, no root changes.
        """
        state = State()
        state.chain_id, state.parameters, state.machine = self.chain_id, self.parameters, self.machine
        state.replica_set = changes.replica_set or self.replica_set
        state.height, state.clock, state.wall_time = self.height + 1, clock_ms, wall_time
        state._store, state._head, state._parent = self._store, self._head, self
        state._changes, state._opened = changes, {}
        for name, group in changes.groups.items():
            before = self.group(name)
            if before is None or before.epoch != group.epoch:
                for key in index_keys(group):
                    state._opened.setdefault(key, []).append(name)
        leaves = _leaves(changes.accounts, changes.groups, changes.marks)
        leaves |= _value_leaves(changes.values) | _head_leaves(changes.heads)
        leaves |= _preimage_leaves(changes.registrations)
        if changes.replica_set is not None:
            leaves[REPLICA_SET_KEY] = changes.replica_set.hash
        state._lots = self._lots.after(changes.ids, clock_ms) if forgets else self._lots
        if state._lots is not self._lots:
            leaves[REMEMBERED_KEY] = state._lots.root
        state._tree = self._tree.update(leaves) if leaves else self._tree
        return state

    def commit(self) -> None:
        """Move this view, its block being final, and its ancestors into the base. Committing the head does nothing.

        Raises:
            LocalError: It does not descend from the committed head: two blocks were called final.
        """
        for view in reversed(list(self._path())):
            changes = view._changes
            self._store.absorb(
                changes.accounts,
                changes.groups,
                changes.ids,
                view.clock,
                changes.marks,
                values=changes.values,
                heads=changes.heads,
                registrations=changes.registrations,
            )
            view._parent, view._changes, view._opened = None, Changes(), {}
            self._head[0] = view

    @property
    def voters(self) -> Voters:
        """Whose contradicting votes are evidence."""
        return self.replica_set.voters(self.chain_id, self.parameters.term_views)

    @property
    def root(self) -> Hash:
        """What the header's `state_root` must be."""
        return self._tree.root

    def prove(self, key: Hash) -> merkle.Proof:
        """Prove the record, or that there is none, at :func:`account_key`, :func:`group_key` or another such place.

        A record has :func:`leaf_hash`.
        """
        return self._tree.prove(key)

    def account(self, address: PublicKey) -> Account:
        """The account; of 0 if nobody ever paid it."""
        return Account(self.balance(address))

    def balance(self, address: PublicKey) -> int:
        """Minor units of an account."""
        for view in self._path():
            found = view._changes.accounts.get(address)
            if found is not None:
                return found
        return self._store.accounts.get(address, 0)

    def group(self, group_id: Hash) -> Group | None:
        """The group, or None if no opening made it."""
        for view in self._path():
            found = view._changes.groups.get(group_id)
            if found is not None:
                return found
        return self._store.groups.get(group_id)

    def mark(self, replica: PublicKey) -> Mark | None:
        """What the replica with this key was shown to have done; None if nothing."""
        for view in self._path():
            found = view._changes.marks.get(replica)
            if found is not None:
                return found
        return self._store.marks.get(replica)

    def appointed(self, account: PublicKey) -> Head | None:
        """Which process acts for an account; None if it never said."""
        for view in self._path():
            found = view._changes.heads.get(account)
            if found is not None:
                return found
        return self._store.heads.get(account)

    def registration(self, hashed: Hash) -> Registration | None:
        """When the preimage with this SHA-256 was registered; None if it never was, or that is forgotten."""
        for view in self._path():
            if hashed in view._changes.registrations:
                return view._changes.registrations[hashed]
        return self._store.registrations.get(hashed)

    def value(self, place: Hash) -> bytes | None:
        """The state machine's value at a place in the tree, its :func:`machine_key`; None if it has none."""
        for view in self._path():
            if place in view._changes.values:
                return view._changes.values[place]
        return self._store.values.get(place)

    def groups_of(self, key: PublicKey, after: Hash = b"", limit: int = PAGE) -> list[Group]:
        """Groups with this key of a member or witness, or this account, in order of id, above `after`."""
        names = (name for name in self._named(key) if name > after)
        return [self._known(name) for name in islice(names, limit)]

    def is_named(self, account: PublicKey) -> bool:
        """Whether some group, closed or not, has this account, or this key."""
        return next(self._named(account), None) is not None

    def is_member(self, member: Member) -> bool:
        """Whether some group, closed or not, has this member key with this funding account."""
        return next(self._named(member_name(member)), None) is not None

    def groups(self, after: Hash = b"", limit: int = PAGE) -> list[Group]:
        """All groups, in order of id, from the first id above `after`."""
        opened = {n for view in self._path() for n in view._changes.groups if n > after and n not in self._store.groups}
        names = merge(self._store.group_ids.after(after), sorted(opened))
        return [self._known(name) for name in islice(names, limit)]

    def remembered(self, transaction_id: Hash) -> bool:
        """Whether this id was executed (or refused) and may not be again; forgotten when its life span is over."""
        return any(transaction_id in view._changes.ids for view in self._path()) or transaction_id in self._store.ids

    def due(self, clock_ms: int) -> Iterator[Group]:
        """Groups that fall due at or before `clock_ms`, in the order (clock, id) (rule 11): see `Group.due_ms`."""
        recent = sorted(
            (due_ms, name)
            for view in self._path()
            for name, group in view._changes.groups.items()
            if (due_ms := group.due_ms) is not None and due_ms <= clock_ms
        )
        last: Hash | None = None
        for due_ms, name in merge(self._store.due(clock_ms), recent):
            group = self._known(name)
            if name == last or group.due_ms != due_ms:
                continue
            yield group
            last = name

    def claimable(self) -> Iterator[Hash]:
        """Groups with a pending lock whose preimage was registered in time, by (clock of registration, hash, id).

        A group may come twice, once for each hash.
        """
        recent = sorted(
            (each.clock_ms, hashed)
            for view in self._path()
            for hashed, each in view._changes.registrations.items()
            if each is not None
        )
        waiting = self._lately_waiting()
        for (clock_ms, hashed), _ in groupby(merge(self._store.claimable(), recent)):  # a renewal names it again
            found = self.registration(hashed)
            if found is None or found.clock_ms != clock_ms:
                continue
            for name in sorted(waiting.get(hashed, set()) | self._store.waiting.get(hashed, set())):
                pending = (each for each in self._known(name).pending if each.lock.hash == hashed)
                if any(is_timely(found, each.until_ms) for each in pending):
                    yield name

    def forgettable(self, clock_ms: int) -> Iterator[Hash]:
        """Preimages that were last renewed long enough ago, and that no closed group waits for; the oldest first."""
        until = clock_ms - self.parameters.preimage_kept_ms
        if until <= 0:
            return
        recent = sorted(
            (each.kept_from_ms, hashed)
            for view in self._path()
            for hashed, each in view._changes.registrations.items()
            if each is not None and each.kept_from_ms < until
        )
        waiting = self._lately_waiting()
        for kept_from_ms, hashed in merge(self._store.kept(until - 1), recent):
            found = self.registration(hashed)
            if found is None or found.kept_from_ms != kept_from_ms:
                continue
            names = waiting.get(hashed, set()) | self._store.waiting.get(hashed, set())
            if not any(each.lock.hash == hashed for name in names for each in self._known(name).pending):
                yield hashed

    def _lately_waiting(self) -> dict[Hash, set[Hash]]:
        """By hash, groups in which blocks above the committed head left a lock under it pending."""
        found: dict[Hash, set[Hash]] = {}
        for view in self._path():
            for name, group in view._changes.groups.items():
                for each in group.pending if group.locks else ():
                    found.setdefault(each.lock.hash, set()).add(name)
        return found

    def next_deadline(self) -> int | None:
        """Ledger clock at which the next group falls due, for the heartbeat; None if none does."""
        if next(self.claimable(), None) is not None:
            return self.clock
        return next((group.due_ms for group in self.due(_NEVER)), None)

    def image(self) -> StateImage:
        """All records, for a checkpoint. Takes microseconds, whatever the size of the state.

        Raises:
            LocalError: The state is not the committed head.
        """
        self._check_head()
        store = self._store
        marks = tuple(store.marks.values())
        lots = [(number, ids, len(ids)) for number, ids in store.lots.items()]
        accounts, groups, values = store.accounts.image(), store.groups.image(), store.values.image()
        heads, registrations = store.heads.image(), store.registrations.image()
        return StateImage(accounts, groups, lots, marks, self.replica_set, values, heads, registrations)

    def snapshot(self) -> Snapshot:
        """Everything, in order. Takes time and memory in proportion to the state.

        Raises:
            LocalError: The state is not the committed head.
        """
        self._check_head()
        return Snapshot(
            self.height,
            self.clock,
            self.wall_time,
            tuple(sorted(self._store.accounts.items())),
            tuple(self._store.groups[name] for name in self._store.group_ids.after(b"")),
            tuple((number, tuple(ids)) for number, ids in sorted(self._store.lots.items())),
            tuple(mark for _, mark in sorted(self._store.marks.items())),
            self.replica_set,
            tuple(sorted(self._store.values.items())),
            tuple(head for _, head in sorted(self._store.heads.items())),
            tuple(each for _, each in sorted(self._store.registrations.items())),
        )

    def total_units(self) -> int:
        """All money, in accounts and locked in groups: always the genesis supply. A full audit, for tests."""
        accounts, groups = dict(self._store.accounts.items()), dict(self._store.groups.items())
        for view in reversed(list(self._path())):
            accounts.update(view._changes.accounts)
            groups.update(view._changes.groups)
        return sum(accounts.values()) + sum(group.locked_units for group in groups.values())

    def _check_head(self) -> None:
        if self._head[0] is not self:
            raise LocalError(f"only the committed head has a snapshot; height {self.height} is not it")

    def _named(self, key: bytes) -> Iterator[Hash]:
        """Groups that have this among their `index_keys` now, in order; an index below may know them from before."""
        names = set(self._store.by_key.get(key, ()))
        recent = {name for view in self._path() for name in view._opened.get(key, ())}
        changed = any(view._opened for view in self._path())
        for name in sorted(names | recent):
            if not changed or key in index_keys(self._known(name)):
                yield name

    def _known(self, name: Hash) -> Group:
        group = self.group(name)
        assert group is not None, "an index names existing groups"
        return group

    def _path(self) -> Iterator[State]:
        """This view and those below it down to the committed head, which is left out: its changes are in the base."""
        view, head = self, self._head[0]
        while view is not head:
            yield view
            if view._parent is None:
                raise LocalError(
                    f"the view of height {self.height} does not descend from the committed head of height "
                    f"{head.height}; take the newest state again"
                )
            view = view._parent


_NEVER = 2**63
"""A ledger clock that no deadline reaches."""


def _leaves(
    accounts: Mapping[PublicKey, int], groups: Mapping[Hash, Group], marks: Mapping[PublicKey, Mark]
) -> dict[Hash, Hash | None]:
    leaves = {account_key(address): leaf_hash(Account(balance)) for address, balance in accounts.items()}
    leaves |= {group_key(name): leaf_hash(group) for name, group in groups.items()}
    return leaves | {mark_key(replica): leaf_hash(mark) for replica, mark in marks.items()}


def _head_leaves(heads: Mapping[PublicKey, Head]) -> dict[Hash, Hash | None]:
    return {head_key(account): leaf_hash(head) for account, head in heads.items()}


def _preimage_leaves(registrations: Mapping[Hash, Registration | None]) -> dict[Hash, Hash | None]:
    return {preimage_key(hashed): leaf_hash(each) for hashed, each in registrations.items()}


def _value_leaves(values: Mapping[Hash, bytes | None]) -> dict[Hash, Hash | None]:
    return {place: leaf_hash(value) for place, value in values.items()}


def check_named(genesis: Genesis, machine: StateMachine | None) -> None:
    """See that this is the machine which the genesis names, or that it names none and this is none.

    Raises:
        LocalError: Another one would give other answers than the other replicas do.
    """
    name = "" if machine is None else machine.name
    if name != genesis.machine:
        raise LocalError(
            f"the ledger {genesis.name!r} runs the machine {genesis.machine!r}, this replica has {name!r}; "
            "empty means none: name the code of that name and version, with --machine or as `machine` in replica.toml"
        )
