"""Certified roots: a final header says what a straight replay from genesis gives, and q replicas signed for it.

Source: docs/design/consensus.md, "Execution and state"; architecture.md, "Time", "Believing an answer".
"""

from __future__ import annotations

from collections.abc import Iterable

from layer1.block import CommittedBlock
from layer1.consensus.messages import Finalization
from layer1.errors import RemoteError
from layer1.header import BlockId
from layer1.ledger.genesis import Genesis
from layer1.ledger.records import REPLICA_SET_KEY
from layer1.proof import Handover, HeadProof, Trust, verify_head
from tests.simulation.checkers.base import Checker
from tests.simulation.checkers.reference import Reference


class CertifiedRoots(Checker):
    """Clock, transactions, outputs and state of every final block, and its certificate as a client checks it."""

    def __init__(self, genesis: Genesis, honest: Iterable[int], reference: Reference | None = None) -> None:
        super().__init__(genesis, honest, reference)
        self._checked: set[tuple[BlockId, Finalization]] = set()
        self._trust = Trust(genesis)

    def delivered(self, process: str, replica: int, block: CommittedBlock) -> None:
        header, point = block.header, self.reference.take(block)
        if point is None:
            self.fail(f"{process} delivers block {header.height}, and nobody the block before")
            return
        claimed = (header.clock, header.transactions_root, header.outputs_root, header.state_root)
        found = (point.clock, point.transactions_root, point.outputs_root, point.state_root)
        names = ("clock", "transactions root", "outputs root", "state root")
        for name, one, other in zip(names, claimed, found, strict=True):
            if one != other:
                self.fail(f"the {name} of block {header.height} at {process} is {one!r}, a replay gives {other!r}")
        if tuple(output.transaction_id for output in block.outputs) != point.transaction_ids:
            self.fail(f"the outputs of block {header.height} at {process} are not those of a replay")
        if header.epoch != point.epoch:
            self.fail(f"{process} delivers block {header.height} of epoch {header.epoch}, it belongs to {point.epoch}")
        self._check_certificate(process, block)
        self._follow(process, block)

    def _follow(self, process: str, block: CommittedBlock) -> None:
        """What a client does that follows the sets."""
        state = self.reference.state
        if state.height == block.header.height and state.replica_set.epoch == len(self._trust.sets):
            if any(filler.state_root != block.header.state_root for filler in block.path):
                self.fail(f"what makes block {block.header.height} final at {process} changes the state behind it")
            head = HeadProof(block.header, block.path, block.finalization)
            try:
                self._trust.follow(Handover(head, state.replica_set, state.prove(REPLICA_SET_KEY)))
            except RemoteError as error:
                self.fail(f"the handover in block {block.header.height} at {process}: {error}")

    def _check_certificate(self, process: str, block: CommittedBlock) -> None:
        key = block.header.id, block.finalization
        if key not in self._checked:
            try:
                verify_head(self._trust, HeadProof(block.header, block.path, block.finalization))
            except RemoteError as error:
                self.fail(f"the certificate of block {block.header.height} at {process}: {error}")
            self._checked.add(key)
