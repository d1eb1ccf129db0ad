"""Final blocks into the database, in bulk, in a thread of its own behind the journal.

Safety: the database holds nothing that the journal, a checkpoint or the peers cannot give again; if it fails, the
replica stops, and if it only does not answer, the replica goes on without.

An outage (`layer1.storage.database.Outage`), such as a server that restarts, is waited for: the same blocks are tried
again, and what becomes final meanwhile waits in memory. The journal has it, too: there is no checkpoint, and so
nothing is dropped from the journal, until the database has all of it. A replica in which too much waits stops, as one
whose database failed: then a start fills the database from the journal.

Source: docs/design/architecture.md, "Two kinds of storage"; decision 019.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence

from layer1.block import CommittedBlock
from layer1.errors import LocalError
from layer1.storage.database import Outage
from layer1.storage.store import Store

MAX_TRANSACTIONS = 2_000
"""In one database transaction: large enough to be cheap, small enough for readers to see blocks soon."""
MAX_WAITING = 100_000
"""Transactions and blocks that wait in an outage: about 200 MB, or 20 s under the highest load that was measured."""
FIRST_PAUSE_S = 0.1
"""Before the second try; twice as long before each further one."""
GATHER_S = 0.04
"""From the first block that waits to its transaction: whoever waits for that block is answered first, and the next
ones come along. Where the writers of four replicas on two cores began at once, they took 4 ms of the 12 of a lone
transfer.
"""
LONGEST_PAUSE_S = 5.0
"""Between two tries: how late it is noticed that the database is back."""

Work = Callable[[], object]

_log = logging.getLogger(__name__)


class StoreWriter:
    """Appends blocks to a store, oldest first."""

    def __init__(
        self,
        store: Store,
        on_error: Callable[[LocalError], None],
        *,
        gather_s: float = GATHER_S,
        first_pause_s: float = FIRST_PAUSE_S,
        max_waiting: int = MAX_WAITING,
    ) -> None:
        """Begin.

        Args:
            store: Where they go.
            on_error: Told, in any thread and once, that no more is stored.
            gather_s: See `GATHER_S`.
            first_pause_s: See `FIRST_PAUSE_S`.
            max_waiting: See `MAX_WAITING`.
        """
        self._store = store
        self._on_error = on_error
        self._gather_s = gather_s
        self._first_pause_s = first_pause_s
        self._max_waiting = max_waiting
        self._queue: queue.SimpleQueue[Sequence[CommittedBlock] | Work | None] = queue.SimpleQueue()
        self._ahead: list[Work | None] = []
        """Taken from the queue, and not yet done."""
        self._put = self._stored = 0
        """Transactions and blocks: the one number is written by whoever puts, the other by the thread."""
        self._outage: Outage | None = None
        self._given_up = False
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many transactions and blocks are not stored yet."""
        return self._put - self._stored

    def put(self, blocks: Sequence[CommittedBlock]) -> None:
        """Store these after all before them; returns at once."""
        self._put += _weigh(blocks)
        self._queue.put(blocks)
        outage = self._outage
        if outage is not None and self.waiting > self._max_waiting and not self._given_up:
            self._given_up = True
            self._on_error(
                LocalError(
                    f"{outage}; {self.waiting} transactions and blocks wait for the database, at most "
                    f"{self._max_waiting} may. The journal has all of them: start again when the database answers"
                )
            )

    def then(self, work: Work) -> None:
        """Do this in the thread once all before it is stored, again after an outage in it; returns at once."""
        self._queue.put(work)

    def close(self) -> None:
        """Do what was put, and end; in an outage, end after one more try."""
        self._ending.set()
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            while (item := self._take()) is not None:
                if callable(item):
                    self._until_done(item)
                else:
                    blocks = item
                    self._until_done(lambda: self._store.append(blocks))  # noqa: B023 - called before the next turn
                    self._stored += _weigh(blocks)
        except LocalError as error:
            self._on_error(error)
        except Outage as error:
            _log.warning("%s; what is not stored is in the journal, and the next start stores it", error)
        except Exception as error:  # noqa: BLE001 - a thread that dies unseen would leave a replica without a database
            self._on_error(LocalError(f"storing blocks failed: {error!r}"))

    def _take(self) -> Sequence[CommittedBlock] | Work | None:
        """What to do next; blocks with all that come soon after them, up to a bound."""
        item = self._ahead.pop() if self._ahead else self._queue.get()
        if item is None or callable(item):
            return item
        self._ending.wait(self._gather_s)
        blocks, count = list(item), _weigh(item)
        while count < MAX_TRANSACTIONS and not self._queue.empty():
            more = self._queue.get()
            if more is None or callable(more):
                self._ahead.append(more)
                break
            blocks.extend(more)
            count += _weigh(more)
        return blocks

    def _until_done(self, work: Work) -> None:
        """Do it, again and again while the database does not answer.

        Raises:
            Outage: It still did not when this was closed.
        """
        pause_s, since = self._first_pause_s, time.monotonic()
        while True:
            ending = self._ending.is_set()
            try:
                work()
            except Outage as error:
                if ending:
                    raise
                if self._outage is None:
                    _log.warning("%s; it is tried again, and what becomes final waits in memory and journal", error)
                self._outage = error
            else:
                break
            self._ending.wait(pause_s)
            pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        if self._outage is not None:
            _log.warning("the database answers again, after %.1f s", time.monotonic() - since)
            self._outage = None


def _weigh(blocks: Sequence[CommittedBlock]) -> int:
    return sum(1 + len(block.transactions) for block in blocks)
