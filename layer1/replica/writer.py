"""Final blocks into the database, in bulk, in a thread of its own behind the journal.

Safety: the database holds nothing that the journal, a checkpoint or the peers cannot give again; if it fails, the
replica stops.

Source: docs/design/architecture.md, "Two kinds of storage".
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence

from layer1.block import CommittedBlock
from layer1.errors import LocalError
from layer1.storage.store import Store

MAX_TRANSACTIONS = 2_000
"""In one database transaction: large enough to be cheap, small enough for readers to see blocks soon."""

Work = Callable[[], None]


class StoreWriter:
    """Appends blocks to a store, oldest first."""

    def __init__(self, store: Store, on_error: Callable[[LocalError], None]) -> None:
        self._store = store
        self._on_error = on_error
        self._queue: queue.SimpleQueue[Sequence[CommittedBlock] | Work | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def put(self, blocks: Sequence[CommittedBlock]) -> None:
        """Store these after all before them; returns at once."""
        self._queue.put(blocks)

    def then(self, work: Work) -> None:
        """Do this in the thread once all before it is stored; returns at once."""
        self._queue.put(work)

    def close(self) -> None:
        """Do what was put, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                while item is not None and not callable(item):
                    item = self._store_with_more(item)
                if item is None:
                    return
                item()
        except LocalError as error:
            self._on_error(error)
        except Exception as error:  # noqa: BLE001 - a thread that dies unseen would leave a replica without a database
            self._on_error(LocalError(f"storing blocks failed: {error!r}"))

    def _store_with_more(self, first: Sequence[CommittedBlock]) -> Sequence[CommittedBlock] | Work | None:
        """Store these with all blocks that wait behind them, up to a bound; what comes after."""
        blocks, count = list(first), sum(len(block.transactions) for block in first)
        while count < MAX_TRANSACTIONS and not self._queue.empty():
            item = self._queue.get()
            if item is None or callable(item):
                self._store.append(blocks)
                return item
            blocks.extend(item)
            count += sum(len(block.transactions) for block in item)
        self._store.append(blocks)
        return _nothing


def _nothing() -> None:
    """Work that is none."""
