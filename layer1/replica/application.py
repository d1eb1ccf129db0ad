"""The ledger seen from consensus: it builds, validates and commits blocks on copy-on-write states.

Safety: what this replica calls valid, it has executed to the roots of the header; what is final and executes to
anything else stops it.

Every block above the last final one (the floor) that was built or validated has its state here, under its id. A block
known from the journal is executed when it is first needed. Committing moves the floor and forgets its siblings.

A block that changes the replica set is the boundary of its epoch. Whatever its epoch builds on it is filler: it is
empty, changes nothing, not even at deadlines, serves to make the boundary final, and is dropped with the epoch.

Source: docs/design/consensus.md, rules 3 and 7; "Execution and state".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from layer1 import merkle
from layer1.block import CommittedBlock
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash
from layer1.errors import LocalError, RemoteError
from layer1.header import BlockId, Header
from layer1.ledger.execute import Execution, execute, execute_filler
from layer1.ledger.genesis import Genesis, genesis_header
from layer1.ledger.records import REPLICA_SET_KEY
from layer1.ledger.replicas import ReplicaSet
from layer1.ledger.state import State
from layer1.ledger.transactions import Transaction
from layer1.proof import Handover, HeadProof, Trust
from layer1.replica.weight import Filling, block_weight, total_weight
from layer1.statemachine import StateMachine

MAX_PASSED = 64
"""Batches that do not fit and are passed over for smaller ones behind them, once a block is half full: building it
takes a time of its own size, not of the backlog's. Before that no number of large batches keeps out a small one.
"""
KEPT_REFUSED = 100
"""Blocks whose refusal is remembered, for the report if one of them becomes final."""


@dataclass(frozen=True, slots=True)
class Part:
    """A batch as the application takes it: by name, as bytes, and decoded."""

    digest: Hash
    encoded: bytes
    transactions: tuple[Transaction, ...]
    weight: int = 0
    """Of all of them; counted here if it is not given."""

    def __post_init__(self) -> None:
        if not self.weight:
            object.__setattr__(self, "weight", total_weight(self.transactions))


@dataclass(frozen=True, slots=True)
class Executed:
    """A block above the floor with all that executing it gave."""

    id: BlockId
    header: Header
    parts: tuple[Part, ...]
    execution: Execution

    @property
    def digests(self) -> tuple[Hash, ...]:
        """Names of its batches."""
        return tuple(part.digest for part in self.parts)


@dataclass(frozen=True, slots=True)
class Floor:
    """The last final block."""

    id: BlockId
    header: Header
    finalization: Finalization | None
    state: State
    path: tuple[Header, ...] = ()
    """Filler that leads to the finalized header, behind a boundary."""

    @property
    def is_boundary(self) -> bool:
        """Whether its children belong to the next epoch."""
        return self.state.replica_set.epoch > self.header.epoch


class Application:
    """All states of one replica."""

    def __init__(self, genesis: Genesis, machine: StateMachine | None = None) -> None:
        """Begin at genesis.

        Raises:
            LocalError: It names another machine.
        """
        header = genesis_header(genesis)
        self.floor = Floor(header.id, header, None, State.genesis(genesis, machine))
        self.trust = Trust(genesis)
        """The replica sets so far, with what proves them to others."""
        self._parameters = genesis.parameters
        self._blocks: dict[BlockId, Executed] = {}
        self._refused: dict[BlockId, str] = {}

    def resume(self, trust: Trust, floor: Floor) -> None:
        """Go on from a checkpoint, as `layer1.replica.checkpoints.load` judged it."""
        for handover in trust.handovers:
            self.trust.follow(handover)
        self.floor = floor

    @property
    def replica_set(self) -> ReplicaSet:
        """Who certifies the next block of the ledger."""
        return self.floor.state.replica_set

    def get(self, block: BlockId) -> Executed | None:
        """A block above the floor."""
        return self._blocks.get(block)

    def above_floor(self) -> list[Executed]:
        """All executed blocks that are not final, the lowest first."""
        return sorted(self._blocks.values(), key=lambda executed: executed.header.height)

    def batch(self, digest: Hash) -> bytes | None:
        """An encoded batch of a block above the floor, for a peer that is to vote on it or on its children."""
        parts = (part for executed in self._blocks.values() for part in executed.parts)
        return next((part.encoded for part in parts if part.digest == digest), None)

    def has_state(self, block: BlockId) -> bool:
        """Whether children of this block can be executed."""
        return block == self.floor.id or block in self._blocks

    def header_of(self, block: BlockId) -> Header | None:
        """The header of the floor or of a block above it."""
        if block == self.floor.id:
            return self.floor.header
        found = self._blocks.get(block)
        return None if found is None else found.header

    def state_after(self, block: BlockId) -> State:
        """The state after the floor or a block above it.

        Raises:
            LocalError: It is not here; consensus was to ask only for complete ancestries.
        """
        if block == self.floor.id:
            return self.floor.state
        found = self._blocks.get(block)
        if found is None:
            raise LocalError(f"block {block.hex()} has no state here; the floor is at {self.floor.header.height}")
        return found.execution.state

    def included(self, block: BlockId) -> set[Hash]:
        """Digests of all batches from above the floor up to this block."""
        found: set[Hash] = set()
        while (executed := self._blocks.get(block)) is not None:
            found.update(executed.digests)
            block = executed.header.parent
        return found

    def had_room(self, executed: Executed, transactions: int, weight: int) -> bool:
        """Whether a leader of ours would have put a batch of so many transactions, of this weight, into a block."""
        filling = Filling(self._parameters)
        for part in executed.parts:
            filling.add(len(part.transactions), part.weight)
        return filling.takes(transactions, weight)

    def build(self, view: int, epoch: int, parent: Header, wall_time: int, candidates: Iterable[Part]) -> Executed:
        """Execute what fits of the candidates above `parent`, which is at or above the floor."""
        parent_id = parent.id
        state = self.state_after(parent_id)
        is_filler = state.replica_set.epoch > epoch
        parts = () if is_filler else self._choose(parent_id, candidates)
        execution = execute_filler(state, wall_time) if is_filler else execute(state, wall_time, _transactions(parts))
        header = Header(
            epoch=epoch,
            view=view,
            height=parent.height + 1,
            parent=parent_id,
            clock=execution.clock,
            wall_time=wall_time,
            batches_root=_batches_root(parts),
            transactions_root=execution.transactions_root,
            state_root=execution.state.root,
            outputs_root=execution.outputs_root,
            replica_set=parent.replica_set if is_filler else state.replica_set.hash,
        )
        return self._keep(header, parts, execution)

    def validate(self, header: Header, parent: Header, parts: tuple[Part, ...]) -> Executed:
        """Execute a proposed block above `parent` and compare everything.

        Raises:
            RemoteError: The block is invalid, by this reason.
        """
        known = self._blocks.get(header.id)
        if known is not None:
            return known
        try:
            return self._validate(header, parent, parts)
        except RemoteError as error:
            self.refuse(header.id, str(error))
            raise

    def refuse(self, block: BlockId, why: str) -> None:
        """Remember that this block is invalid."""
        self._refused[block] = why
        while len(self._refused) > KEPT_REFUSED:
            del self._refused[next(iter(self._refused))]

    def commit(self, headers: Sequence[Header], finalization: Finalization) -> list[CommittedBlock]:
        """Make these blocks final, oldest first, up to a boundary; those at or below the floor are passed over.

        Raises:
            LocalError: One was refused here, or does not follow the floor: this replica and the others diverge.
        """
        committed = []
        for i, header in enumerate(headers):
            is_filler = header.epoch < self.replica_set.epoch
            if header.height > self.floor.header.height and not is_filler:
                committed.append(self._commit(header, finalization, tuple(headers[i + 1 :])))
        if committed:
            self._forget_siblings()
        return committed

    def commit_alone(self, block: CommittedBlock) -> CommittedBlock:
        """Make an executed block final again, as it was stored; the blocks of its path come by themselves.

        Raises:
            LocalError: As :meth:`commit`.
        """
        committed = self._commit(block.header, block.finalization, block.path)
        self._forget_siblings()
        return committed

    def describe_refusals(self) -> str:
        """The newest refusal, for the report of whoever finds that a refused block is final."""
        if not self._refused:
            return ""
        block, why = list(self._refused.items())[-1]
        return f"; the last block that was refused here is {block.hex()}: {why}"

    def check_not_refused(self, block: BlockId) -> None:
        """Stop if this block, which is final, was refused here.

        Raises:
            LocalError: With both sides of the divergence.
        """
        why = self._refused.get(block)
        if why is not None:
            raise LocalError(
                f"divergence: block {block.hex()} is final, and this replica finds it invalid: {why}. It stops rather "
                "than follow a chain that it cannot verify; compare its version and its disk with the others'"
            )

    def _choose(self, parent: BlockId, candidates: Iterable[Part]) -> tuple[Part, ...]:
        included = self.included(parent)
        chosen: list[Part] = []
        filling, passed = Filling(self._parameters), 0
        for part in candidates:
            if filling.is_full or (passed >= MAX_PASSED and filling.is_half_full):
                break
            if part.digest in included:
                continue
            if not filling.takes(len(part.transactions), part.weight):
                passed += 1
                continue  # what does not fit waits, and keeps out nothing behind it
            chosen.append(part)
            filling.add(len(part.transactions), part.weight)
        return tuple(chosen)

    def _validate(self, header: Header, parent: Header, parts: tuple[Part, ...]) -> Executed:
        transactions = _transactions(parts)
        _same("height", header.height, parent.height + 1)
        _same("parent", header.parent, parent.id)
        is_filler = self._check_epoch(header, parent)
        _same("batches root", header.batches_root, _batches_root(parts))
        if len(transactions) > self._parameters.max_block_transactions:
            raise RemoteError(
                f"{len(transactions)} transactions in a block; at most {self._parameters.max_block_transactions} may be"
            )
        weight, heaviest = sum(part.weight for part in parts), block_weight(self._parameters)
        if weight > heaviest:
            raise RemoteError(f"{weight} signatures in a block; at most {heaviest} may be")
        state = self.state_after(header.parent)
        if is_filler and parts:
            raise RemoteError(f"{len(parts)} batches behind the last block of epoch {header.epoch}, not 0")
        run = execute_filler(state, header.wall_time) if is_filler else execute(state, header.wall_time, transactions)
        _same("clock", header.clock, run.clock)
        _same("transactions root", header.transactions_root, run.transactions_root)
        _same("outputs root", header.outputs_root, run.outputs_root)
        _same("state root", header.state_root, run.state.root)
        return self._keep(header, parts, run)

    def _check_epoch(self, header: Header, parent: Header) -> bool:
        """Compare epoch and replica set; whether this is filler.

        An epoch begins on the boundary that is final here, and on nothing that its predecessor built behind it.
        """
        following = self.state_after(header.parent).replica_set
        if header.epoch == parent.epoch:
            _same("replica set", header.replica_set, parent.replica_set)
            return following.epoch > header.epoch
        _same("epoch", header.epoch, following.epoch)
        _same("replica set", header.replica_set, following.hash)
        _same("boundary", header.parent, self.floor.id)
        return False

    def _keep(self, header: Header, parts: tuple[Part, ...], execution: Execution) -> Executed:
        executed = Executed(header.id, header, parts, execution)
        self._blocks[executed.id] = executed
        return executed

    def _commit(self, header: Header, finalization: Finalization, path: tuple[Header, ...]) -> CommittedBlock:
        block = header.id
        self.check_not_refused(block)
        executed = self._blocks.pop(block, None)
        if executed is None or header.parent != self.floor.id:
            raise LocalError(
                f"block {block.hex()} of height {header.height} is final, but the last final block here is "
                f"{self.floor.id.hex()} of height {self.floor.header.height} and this is no executed child of it"
            )
        executed.execution.state.commit()
        self.floor = Floor(block, header, finalization, executed.execution.state)
        if self.floor.is_boundary:
            self.floor = replace(self.floor, path=path)
            self._hand_over()
        return CommittedBlock(
            header=header,
            finalization=finalization,
            path=path,
            batches=tuple(part.encoded for part in executed.parts),
            transactions=executed.execution.transactions,
            outputs=executed.execution.outputs,
            events=executed.execution.events,
        )

    def _hand_over(self) -> None:
        """Note what proves the next replica set to those who know the one before."""
        floor, state = self.floor, self.floor.state
        head = HeadProof(floor.header, floor.path, floor.finalization)
        self.trust.follow(Handover(head, state.replica_set, state.prove(REPLICA_SET_KEY)))

    def _forget_siblings(self) -> None:
        """Keep only descendants of the floor in its epoch: a state beside it can never be read again."""
        kept, known = dict[BlockId, Executed](), {self.floor.id}
        for executed in sorted(self._blocks.values(), key=lambda executed: executed.header.height):
            if executed.header.parent in known and executed.header.epoch == self.replica_set.epoch:
                known.add(executed.id)
                kept[executed.id] = executed
        self._blocks = kept


def _transactions(parts: Sequence[Part]) -> list[Transaction]:
    return [transaction for part in parts for transaction in part.transactions]


def _batches_root(parts: Sequence[Part]) -> Hash:
    return merkle.list_root([part.digest for part in parts])


def _same(what: str, claimed: object, found: object) -> None:
    if claimed != found:
        raise RemoteError(f"{what} is {_text(claimed)} in the header, {_text(found)} here")


def _text(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
