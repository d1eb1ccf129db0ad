"""Back from the disk: a checkpoint or the blocks in storage, then the journal, record by record.

Safety: the state that comes out is that of the blocks which the others call final, or nothing comes out.

Every block is executed anew and compared with its header. Records of blocks that the checkpoint holds already are
passed over. A journal that was shortened says which block it goes on from; without the state after that block the
final blocks in it cannot be executed. Then the replica stops with an explanation, unless it was told to rebuild: it
takes up its votes from the journal all the same, and fetches the blocks from its peers.

Source: docs/design/consensus.md, "Persist before sending", "Catching up, joining, leaving"; decision 014.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import assert_never

from layer1.block import Batch, CommittedBlock, batch_digest
from layer1.codec import decode
from layer1.consensus.certificates import Checker
from layer1.consensus.messages import Finalization
from layer1.crypto import Hash
from layer1.errors import LocalError, RemoteError
from layer1.header import BlockId, Header
from layer1.proof import check_path
from layer1.replica.application import Application, Part
from layer1.replica.evidence import EvidenceBook
from layer1.replica.records import (
    BatchRecord,
    BlockRecord,
    CheckpointRecord,
    ConsensusRecord,
    EvidenceRecord,
    FenceRecord,
    FinalRecord,
    PeerRecord,
    decode_record,
)


class Replay:
    """One replay into one application."""

    def __init__(self, application: Application, evidence: EvidenceBook) -> None:
        self.votes: list[bytes] = []
        """What consensus journaled."""
        self.generations: dict[int, int] = {}
        """Highest generation of each peer's journal."""
        self.batches: dict[Hash, Part] = {}
        """After :meth:`execute_pending`: those that are not final."""
        self.fence: FenceRecord | None = None
        """Where this replica lost its journal last, if it did."""
        self.first_epoch = 0
        """The first of which all votes are in the journal."""
        self.size_bytes = 0
        """Of the records that were replayed."""
        self._application = application
        self._evidence = evidence
        self._blocks: dict[BlockId, BlockRecord] = {}
        self._rebuilding = False

    # ------------------------------------------------------------------------------------------- blocks from storage

    def rebuild(self, stored: Iterable[CommittedBlock]) -> None:
        """Execute the blocks in storage from the first on, as far as they go; peers have the rest.

        Raises:
            LocalError: One of them is not certified, or executing it gives something else than its header says.
        """
        self._rebuilding = True
        segment = list[CommittedBlock]()
        checker = self._application.trust.checker(0)
        for block in stored:
            if segment == [] and block.header.epoch != checker.epoch:
                checker = self._application.trust.checker(block.header.epoch)
            segment.append(block)
            if not block.path or block.is_boundary:
                self._execute_stored(segment, checker)
                segment = []

    def _execute_stored(self, segment: Sequence[CommittedBlock], checker: Checker) -> None:
        last = segment[-1]
        try:
            _check_final(last, checker)
            for block in segment:
                self._execute(block.header, tuple(part_of(encoded) for encoded in block.batches))
        except RemoteError as error:
            raise LocalError(
                f"block {last.header.height} in storage: {error}; move the database away, and it will be filled anew"
            ) from error
        headers = [block.header for block in segment]
        self._application.commit([*headers, *last.path], last.finalization)

    # --------------------------------------------------------------------------------------------------- the journal

    def run(self, records: Iterable[bytes]) -> Iterator[CommittedBlock]:
        """Replay the journal; every final block above the floor, oldest first, as it is executed.

        Raises:
            LocalError: The journal does not fit the genesis, or executing it gives other roots than it holds.
        """
        for data in records:
            self.size_bytes += len(data)
            match record := decode_record(data):
                case ConsensusRecord():
                    self.votes.append(record.record)
                case BatchRecord():
                    part = part_of(record.batch)
                    self.batches[part.digest] = part
                case BlockRecord():
                    self._blocks[record.header.id] = record
                case FinalRecord():
                    yield from self._replay_final(record)
                case PeerRecord():
                    self.generations[record.replica] = record.generation
                case EvidenceRecord():
                    self._evidence.add(record.evidence)
                case FenceRecord():
                    self.fence, self.first_epoch = record, max(self.first_epoch, record.epoch)
                case CheckpointRecord():
                    self._check_begin(record)
                    self.first_epoch = max(self.first_epoch, record.epoch)
                case _:
                    assert_never(record)

    def _check_begin(self, record: CheckpointRecord) -> None:
        floor = self._application.floor
        if record.height > floor.header.height and not self._rebuilding:
            raise LocalError(
                f"the journal goes on from block {record.height}, whose state was in a checkpoint; the newest state "
                f"here is that of block {floor.header.height}. Put the checkpoint back, or start with --rebuild: then "
                "all blocks are executed anew, from storage and from the peers, and no vote is forgotten"
            )
        if record.height == floor.header.height and record.block != floor.id:
            raise LocalError(
                f"divergence: the journal goes on from block {record.block.hex()} of height {record.height}, the "
                f"checkpoint is of {floor.id.hex()}"
            )

    def _replay_final(self, record: FinalRecord) -> Iterator[CommittedBlock]:
        floor, headers, batches = self._application.floor.header.height, list[Header](), list[Hash]()
        for name in record.blocks:
            block = self._blocks.pop(name, None)
            if block is None:
                if self._is_over(record.finalization) or self._rebuilding:
                    continue
                raise LocalError(f"the journal calls block {name.hex()} final and does not hold it; it is damaged")
            batches += block.batches
            beyond = self._rebuilding and not self._application.has_state(block.header.parent)
            over = block.header.epoch < self._application.replica_set.epoch
            if block.header.height > floor and not beyond and not over:
                self._execute_record(block)
                headers.append(block.header)
        yield from self._application.commit(headers, record.finalization)
        self._forget_final(batches)

    def _is_over(self, finalization: Finalization) -> bool:
        """Whether what this names is at or below the floor; filler behind a boundary is of a later view than that."""
        is_earlier = finalization.epoch < self._application.replica_set.epoch
        return is_earlier or finalization.view <= self._application.floor.header.view

    def _forget_final(self, batches: Iterable[Hash]) -> None:
        """Forget these batches, as this replica did when it journaled that their block is final.

        And no others: it journaled a batch once, and a later block may name it even if it executes nothing any more.
        """
        floor = self._application.floor.header.height
        epoch = self._application.replica_set.epoch
        for name, block in list(self._blocks.items()):
            if block.header.height <= floor or block.header.epoch < epoch:
                del self._blocks[name]
        needed = self._needed()
        for digest in batches:
            if digest not in needed:
                self.batches.pop(digest, None)

    def _needed(self) -> set[Hash]:
        return {digest for block in self._blocks.values() for digest in block.batches}

    def execute_pending(self) -> None:
        """Execute what consensus may still vote on, and keep the batches that are not final."""
        for block in sorted(self._blocks.values(), key=lambda item: item.header.height):
            known = all(digest in self.batches for digest in block.batches)
            if known and self._application.has_state(block.header.parent):
                self._execute_record(block)
        self._drop_executed()

    def _drop_executed(self) -> None:
        """Forget batches of which nothing can execute any more: if a block names one, it is fetched again."""
        state, needed = self._application.floor.state, self._needed()
        for digest, part in list(self.batches.items()):
            if digest not in needed and all(
                item.valid_until_ms < state.clock or state.remembered(item.id) for item in part.transactions
            ):
                del self.batches[digest]

    def _execute_record(self, block: BlockRecord) -> None:
        height = block.header.height
        try:
            parts = tuple(self.batches[digest] for digest in block.batches)
        except KeyError as error:
            raise LocalError(f"the journal lacks a batch of block {height}; it is damaged") from error
        try:
            self._execute(block.header, parts)
        except RemoteError as error:
            raise LocalError(f"divergence: block {height} of the journal: {error}") from error

    def _execute(self, header: Header, parts: tuple[Part, ...]) -> None:
        parent = self._application.header_of(header.parent)
        if parent is None:
            raise LocalError(f"the disk lacks the parent of block {header.height}; it is damaged")
        self._application.validate(header, parent, parts)


def _check_final(block: CommittedBlock, checker: Checker) -> None:
    check_path(block.header, block.path, block.finalization)
    checker.certificate(block.finalization)
    checker.forget_below(block.header.view)


def part_of(encoded: bytes) -> Part:
    """A batch as the application takes it.

    Raises:
        RemoteError: It is no batch.
    """
    return Part(batch_digest(encoded), encoded, decode(encoded, Batch).transactions)
