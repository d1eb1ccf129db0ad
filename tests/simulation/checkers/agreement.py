"""Agreement: all final blocks of all honest replicas, over all their lives, lie on one chain without gaps.

And they agree on the replica set of each epoch.

Source: docs/design/consensus.md, "Why it is safe".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from layer1.block import CommittedBlock
from layer1.header import BlockId
from layer1.ledger.genesis import Genesis, genesis_header
from layer1.ledger.replicas import ReplicaSet
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class Agreement(Checker):
    """One block per height, each the child of the one before, delivered in order."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self.chain: dict[int, BlockId] = {0: genesis_header(genesis).id}
        self._heights: dict[str, int] = {}

    def restored(self, process: str, replica: int, blocks: Sequence[CommittedBlock], height: int) -> None:
        self._heights[process] = height - len(blocks)
        for block in blocks:
            self.delivered(process, replica, block)

    def entered(self, process: str, replica: int, sets: Sequence[ReplicaSet]) -> None:
        known = self.reference.sets
        for mine, others in zip(sets, known, strict=False):
            if mine != others:
                self.fail(f"{process} says that epoch {mine.epoch} is of {mine}, others say {others}")
        known += sets[len(known) :]

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        header = block.header
        expected = self._heights.get(process, 0) + 1
        if header.height != expected:
            self.fail(f"{process} delivers block {header.height} where block {expected} is next")
        self._heights[process] = header.height
        known = self.chain.setdefault(header.height, header.id)
        if known != header.id:
            self.fail(f"{process} has block {header.id.hex()} at height {header.height}, others {known.hex()}")
        if self.chain.get(header.height - 1) != header.parent:
            self.fail(f"{process} has block {header.height} on another parent than block {header.height - 1}")
