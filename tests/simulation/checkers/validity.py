"""Validity: every executed transaction was submitted by a client, and its accounts signed it.

Source: docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.admission import verify_transaction
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import Transaction
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class Validity(Checker):
    """Nobody makes transactions up, changes them, or lets unsigned ones in."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._submitted: dict[Hash, Transaction] = {}
        self._checked: set[Hash] = set()

    def submitted(self, transaction: Transaction) -> None:
        self._submitted[transaction.id] = transaction

    def restored(self, process: str, replica: int, blocks: Sequence[CommittedBlock], height: int) -> None:
        for block in blocks:
            self.delivered(process, replica, block)

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        if block.header.id in self._checked:
            return
        self._checked.add(block.header.id)
        for transaction in block.transactions:
            self._check(process, transaction)

    def _check(self, process: str, transaction: Transaction) -> None:
        name = transaction.id
        if self._submitted.get(name) != transaction:
            self.fail(f"{process} executed {name.hex()}, which nobody submitted")
        try:
            verify_transaction(transaction, self.genesis.chain_id)
        except Refused as refusal:
            self.fail(f"{process} executed {name.hex()}: {refusal}")
