"""Exactly once: a transaction executes in one block at most, and where its client was told; what is dead stays dead.

Source: docs/design/consensus.md, "Mempool and batches" ("after `valid_until` a client *knows*").
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.block import CommittedBlock
from layer1.crypto import Hash
from layer1.errors import Refused
from layer1.ledger.genesis import Genesis
from tests.simulation.checkers.base import Checker, Read, Write
from tests.simulation.checkers.reference import Reference


class ExactlyOnce(Checker):
    """Which block each transaction is in."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._height_of: dict[Hash, int] = {}
        self._heights: set[int] = set()
        self._dead: set[Hash] = set()
        self._told: list[Write] = []

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        height = block.header.height
        if height in self._heights:
            return
        self._heights.add(height)
        for output in block.outputs:
            name = output.transaction_id
            before = self._height_of.setdefault(name, height)
            if before != height:
                self.fail(f"transaction {name.hex()} executes in blocks {before} and {height}")
            if name in self._dead:
                self.fail(f"transaction {name.hex()} executes in block {height} after a replica called it dead")
        if len({output.transaction_id for output in block.outputs}) != len(block.outputs):
            self.fail(f"a transaction executes twice in block {height}")

    def rejected(self, replica: int, ids: Sequence[Hash], refusal: Refused) -> None:
        if refusal.code == "expired":
            self._dead.update(ids)
            for name in ids:
                if name in self._height_of:
                    self.fail(f"replica {replica} calls {name.hex()} dead; block {self._height_of[name]} holds it")

    def answered(self, operation: Read | Write) -> None:
        if isinstance(operation, Write):
            self._told.append(operation)

    def finish(self, now_us: int) -> None:
        for told in self._told:
            found = self._height_of.get(told.transaction_id)
            if found != told.header.height:
                self.fail(
                    f"{told.client} was told that {told.transaction_id.hex()} is in block {told.header.height}; it is "
                    f"in block {found}"
                )
