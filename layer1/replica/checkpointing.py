"""Writes a checkpoint that the core asked for: a millisecond at a time, so that nothing else of the replica waits.

The last step runs in the database's thread behind all blocks that were delivered before: it makes them durable, then
the checkpoint. So where there is a checkpoint, storage has the blocks below it.

Source: decision 014.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from layer1.errors import LocalError
from layer1.replica.events import TakeCheckpoint
from layer1.replica.writer import StoreWriter
from layer1.storage.checkpoint import CheckpointFile
from layer1.storage.store import Store

SLICE_S = 0.001
"""CPU time for encoding before the loop gets its turn."""
REST_S = 0.004
"""Between two slices: a checkpoint takes a fifth of the time of a busy loop at most."""


class CheckpointTask:
    """One checkpoint on its way to the disk. Made and started on the loop."""

    def __init__(
        self,
        path: Path,
        effect: TakeCheckpoint,
        store: Store,
        writer: StoreWriter,
        *,
        done: Callable[[int], None],
        failed: Callable[[LocalError], None],
    ) -> None:
        """Begin.

        Args:
            path: Where it is to stand.
            effect: What to write.
            store: Where the blocks are.
            writer: Of that store.
            done: Told the height, on the loop, once all is durable.
            failed: Told, on the loop, why it cannot be encoded or written; what fails later stops the writer's thread.
        """
        self._effect = effect
        self._store = store
        self._writer = writer
        self._done = done
        self._failed = failed
        self._file = CheckpointFile(path)
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.Handle = self._loop.call_soon(self._write_slice)

    def end(self) -> None:
        """Leave it, unless it is published. The writer must be closed."""
        self._timer.cancel()
        self._file.discard()

    def _write_slice(self) -> None:
        until = time.perf_counter() + SLICE_S
        try:
            for piece in self._effect.pieces:
                self._file.add(piece)
                if time.perf_counter() >= until:
                    self._timer = self._loop.call_later(REST_S, self._write_slice)
                    return
        except LocalError as error:
            self._failed(error)
            return
        self._writer.then(self._publish)

    def _publish(self) -> None:
        self._store.make_durable(self._effect.height)
        self._file.publish()
        self._loop.call_soon_threadsafe(self._done, self._effect.height)
