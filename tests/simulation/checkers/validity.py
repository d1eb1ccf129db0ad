"""Validity: every executed transaction was submitted by a client, and its accounts signed it.

What needs no account's signature (a wedge, a report, a closing) anybody may bring, under a name of his own: the ledger
refuses it, or its payload must be a client's.

Source: docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.block import CommittedBlock
from layer1.codec import encode
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.admission import verify_transaction
from layer1.ledger.execute import OK
from layer1.ledger.genesis import Genesis
from layer1.ledger.transactions import Output, Transaction, signers
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class Validity(Checker):
    """Nobody makes transactions up, changes them, or lets unsigned ones in."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._submitted: dict[Hash, Transaction] = {}
        self._payloads: set[bytes] = set()
        """Of what needs no signature."""
        self._checked: set[Hash] = set()

    def submitted(self, transaction: Transaction) -> None:
        self._submitted[transaction.id] = transaction
        if not signers(transaction.payload):
            self._payloads.add(encode(transaction.payload))

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        if block.header.id in self._checked:
            return
        self._checked.add(block.header.id)
        for transaction, output in zip(block.transactions, block.outputs, strict=True):
            self._check(process, transaction, output)

    def _check(self, process: str, transaction: Transaction, output: Output) -> None:
        name = transaction.id
        is_harmless = output.code != OK or encode(transaction.payload) in self._payloads
        is_anybodys = not signers(transaction.payload) and is_harmless
        if self._submitted.get(name) != transaction and not is_anybodys:
            self.fail(f"{process} executed {name.hex()}, which nobody submitted")
        try:
            verify_transaction(transaction, self.genesis.chain_id)
        except Refused as refusal:
            self.fail(f"{process} executed {name.hex()}: {refusal}")
