"""A straight replay of the ledger from genesis: one block after the other, no forks, no restarts, no network.

It takes the batches of the first final block that anybody delivers at each height, and says what executing them gives.
Whether all replicas deliver the same block is another checker's question.
"""

from __future__ import annotations

from dataclasses import dataclass

from layer1.block import Batch, CommittedBlock
from layer1.codec import decode
from layer1.crypto import Hash, PublicKey
from layer1.header import Header
from layer1.ledger.execute import execute
from layer1.ledger.genesis import Genesis, genesis_header
from layer1.ledger.state import State


@dataclass(frozen=True, slots=True)
class Point:
    """The ledger after one block."""

    header: Header
    epoch: int
    """That its block must be of."""
    clock: int
    transaction_ids: tuple[Hash, ...]
    transactions_root: Hash
    outputs_root: Hash
    state_root: Hash
    total_units: int
    balances: dict[PublicKey, int]
    """Of the accounts that the genesis names."""


class Reference:
    """All points so far, by height."""

    def __init__(self, genesis: Genesis) -> None:
        self._people = [allocation.address for allocation in genesis.allocations]
        self._state = State.genesis(genesis)
        self.sets = [genesis.replica_set]
        """By epoch, the replica sets that honest replicas entered; before their blocks are delivered."""
        header = genesis_header(genesis)
        self.points = [self._point(header, 0, 0, (), header.transactions_root, header.outputs_root)]

    @property
    def state(self) -> State:
        """The ledger after the newest block."""
        return self._state

    def take(self, block: CommittedBlock) -> Point | None:
        """What executing this block, or the one that came first at its height, gives; None if one before is missing."""
        height = block.header.height
        if height == len(self.points):
            self._execute(block)
        return self.points[height] if height < len(self.points) else None

    def _execute(self, block: CommittedBlock) -> None:
        transactions = [item for batch in block.batches for item in decode(batch, Batch).transactions]
        epoch = self._state.replica_set.epoch
        execution = execute(self._state, block.header.wall_time, transactions)
        execution.state.commit()
        self._state = execution.state
        roots = (execution.transactions_root, execution.outputs_root)
        self.points.append(self._point(block.header, epoch, execution.clock, execution.transaction_ids, *roots))

    def _point(
        self, header: Header, epoch: int, clock: int, ids: tuple[Hash, ...], transactions_root: Hash, outputs_root: Hash
    ) -> Point:
        state = self._state
        balances = {address: state.balance(address) for address in self._people}
        total = state.total_units()
        return Point(header, epoch, clock, ids, transactions_root, outputs_root, state.root, total, balances)
