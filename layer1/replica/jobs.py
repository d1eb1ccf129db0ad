"""Whose signatures are verified next: each source in turn, for a slice of time.

What: queues of verification jobs, one for each replica that batches come from; ours is that of our own clients.

*Safety:* no peer can make the batches of others wait for its own: one that sends what never verifies used to delay
everybody by as much as it had been allowed to send.

What a proposal waits for goes before all others, whoever it is from: it is bounded by what a leader may propose.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable

from layer1.errors import Refused
from layer1.ledger.transactions import Transaction
from layer1.replica.events import Verify


class Job:
    """How far the verification of some transactions is."""

    __slots__ = ("effect", "failures", "position")

    def __init__(self, effect: Verify) -> None:
        self.effect = effect
        self.position = 0
        self.failures: list[tuple[int, Refused]] = []

    @property
    def left(self) -> int:
        """Transactions that are still to be verified."""
        return len(self.effect.transactions) - self.position

    def verify_next(self, check: Callable[[Transaction, bool], None]) -> None:
        """Verify one. After the first failure of a peer's batch nothing is left: it is bad as a whole."""
        try:
            check(self.effect.transactions[self.position], self.effect.rehearse)
        except Refused as refusal:
            self.failures.append((self.position, refusal))
            if not self.effect.rehearse:
                self.position = len(self.effect.transactions)
                return
        self.position += 1


class Jobs:
    """All jobs that wait."""

    def __init__(self) -> None:
        self._hurried: deque[Job] = deque()
        self._waiting: OrderedDict[int, deque[Job]] = OrderedDict()
        """By source; the one whose turn it is comes first."""

    def __bool__(self) -> bool:
        return bool(self._hurried or self._waiting)

    def __len__(self) -> int:
        """Transactions that wait."""
        return sum(job.left for queue in (self._hurried, *self._waiting.values()) for job in queue)

    def put(self, job: Job) -> None:
        """Add a job behind those of the same source."""
        self._waiting.setdefault(job.effect.source, deque()).append(job)

    def hurry(self, number: int) -> None:
        """Do this one next."""
        for source, queue in self._waiting.items():
            for job in queue:
                if job.effect.job == number:
                    queue.remove(job)
                    if not queue:
                        del self._waiting[source]
                    self._hurried.appendleft(job)
                    return

    def first(self) -> Job:
        """The job to go on with; there is one."""
        return self._hurried[0] if self._hurried else next(iter(self._waiting.values()))[0]

    def done(self) -> None:
        """The first job is over: it leaves, and another source has its turn."""
        if self._hurried:
            self._hurried.popleft()
            return
        source, queue = next(iter(self._waiting.items()))
        queue.popleft()
        if queue:
            self.pass_turn()
        else:
            del self._waiting[source]

    def pass_turn(self) -> None:
        """A slice of time is over: another source has its turn."""
        if not self._hurried and self._waiting:
            self._waiting.move_to_end(next(iter(self._waiting)))
