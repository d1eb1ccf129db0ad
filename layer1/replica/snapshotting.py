"""Snapshots on the disk: ours are read for peers a chunk at a time, a peer's is written, checked and made ready.

Safety: what is made ready to be installed was put together from the disk, and hashes to a certified root.

Source: decision 027.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

from layer1.ledger.genesis import Genesis
from layer1.replica.checkpoints import fault_of, read_head
from layer1.replica.events import ChunkLoaded, LoadChunk, SaveSnapshot, SnapshotChecked
from layer1.replica.snapshots import CHUNK_BYTES
from layer1.statemachine import StateMachine
from layer1.storage.checkpoint import CheckpointFile, CheckpointReader, read_checkpoint

KEPT = 2
"""Our checkpoints that peers can fetch: one may be in the middle of the last one when the next is there."""
MOST_KEPT = 4
"""With those that are older and in use: so many files of old states at most can liars keep on the disk."""
IN_USE_S = 60.0
"""After a peer read of it."""

_log = logging.getLogger(__name__)


class SnapshotFiles:
    """Of one replica. Close it when done."""

    def __init__(self, ours: Path, theirs: Path, genesis: Genesis, machine: StateMachine | None) -> None:
        """Begin.

        Args:
            ours: Where the newest checkpoint stands.
            theirs: Where a peer's is written.
            genesis: What it is checked against.
            machine: That the genesis names.
        """
        self._ours, self._theirs = ours, theirs
        self._genesis, self._machine = genesis, machine
        self._readers: dict[int, CheckpointReader] = {}
        """By height."""
        self._read_s: dict[int, float] = {}
        """By height, when a peer read of it last."""
        self._writing: CheckpointFile | None = None

    def close(self) -> None:
        """Give all files back; one that is not whole is dropped."""
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()
        self._drop()

    def clear(self) -> None:
        """Drop what a crash left of a peer's; before anything is fetched."""
        for path in (self._theirs, self._theirs.with_name(self._theirs.name + ".new")):
            path.unlink(missing_ok=True)

    def publish(self) -> None:
        """There is a new checkpoint, or one from before the start: let peers fetch it.

        Raises:
            LocalError: It cannot be read.
        """
        if not self._ours.exists():
            return
        newest = CheckpointReader(self._ours)
        height = read_head(iter(newest.read(0, 1))).header.height
        if height in self._readers:
            self._readers[height].close()
        self._readers[height] = newest
        for old in sorted(self._readers)[:-KEPT]:
            if len(self._readers) > MOST_KEPT or time.monotonic() - self._read_s.get(old, -IN_USE_S) >= IN_USE_S:
                self._readers.pop(old).close()
                self._read_s.pop(old, None)

    def oldest(self) -> int | None:
        """Height of the oldest that peers can fetch: they need the blocks above it next."""
        return min(self._readers, default=None)

    def load(self, effect: LoadChunk) -> ChunkLoaded:
        """Read what a peer asks for.

        Raises:
            LocalError: The disk failed.
        """
        reader = self._readers.get(effect.height)
        if reader is not None:
            self._read_s[effect.height] = time.monotonic()
        head = 1  # piece 0, which the peer has from the offer
        pieces = [] if reader is None else reader.read(max(effect.first, 0) + head, CHUNK_BYTES)
        return ChunkLoaded(effect.peer, effect.height, effect.first, pieces)

    def save(self, effect: SaveSnapshot) -> None:
        """Write what came.

        Raises:
            LocalError: The disk failed, or is full.
        """
        if effect.begins:
            self._drop()
            self._writing = CheckpointFile(self._theirs)
            _log.info("far behind: fetching a snapshot from a peer")
        assert self._writing is not None, "a first piece begins a file"
        for piece in effect.pieces:
            self._writing.add(piece)

    async def check(self, height: int) -> SnapshotChecked:
        """Make it durable, read it again, and put its state together.

        Raises:
            LocalError: The disk failed.
        """
        file, self._writing = self._writing, None
        assert file is not None, "it was written"
        fault = await asyncio.to_thread(self._check, file)
        if fault is not None:
            self._theirs.unlink(missing_ok=True)
        return SnapshotChecked(height, fault)

    def _check(self, file: CheckpointFile) -> str | None:
        file.publish()
        found = read_checkpoint(self._theirs)
        assert found is not None, "it was published"
        return fault_of(self._genesis, found, self._machine)

    def _drop(self) -> None:
        if self._writing is not None:
            self._writing.discard()
            self._writing = None
