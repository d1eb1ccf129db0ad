"""The queue of account signatures to verify, a millisecond at a time with the loop given back in between.

Source: decision 003; docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable

from layer1.errors import Refused
from layer1.ledger.transactions import Transaction
from layer1.replica.events import Verified, Verify

SLICE_S = 0.001
"""CPU time of signature verification before the loop gets its turn."""


class VerificationQueue:
    """Jobs in order of arrival, unless one hurries."""

    def __init__(self, check: Callable[[Transaction, bool], None], done: Callable[[Verified], None]) -> None:
        """Make an empty one.

        Args:
            check: Raises `Refused` for a bad transaction; told whether to rehearse it.
            done: Told the outcome of each job.
        """
        self._check = check
        self._done = done
        self._jobs: deque[_Job] = deque()
        self._scheduled = False
        self._over = False

    def __len__(self) -> int:
        """Signatures that wait."""
        return sum(len(job.effect.transactions) - job.position for job in self._jobs)

    def put(self, effect: Verify) -> None:
        """Add a job."""
        self._jobs.append(_Job(effect))
        self._schedule()

    def hurry(self, number: int) -> None:
        """Do this job next."""
        for job in self._jobs:
            if job.effect.job == number:
                self._jobs.remove(job)
                self._jobs.appendleft(job)
                return

    def end(self) -> None:
        """Do nothing more."""
        self._over = True

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._work)

    def _work(self) -> None:
        """Verify for about a millisecond, then give the loop back."""
        self._scheduled = False
        until = time.perf_counter() + SLICE_S
        while self._jobs and not self._over:
            job = self._jobs[0]
            while job.position < len(job.effect.transactions):
                if time.perf_counter() >= until:
                    self._schedule()
                    return
                self._verify_next(job)
            self._jobs.popleft()
            self._done(Verified(job.effect.job, tuple(job.failures)))

    def _verify_next(self, job: _Job) -> None:
        try:
            self._check(job.effect.transactions[job.position], job.effect.rehearse)
        except Refused as refusal:
            job.failures.append((job.position, refusal))
        job.position += 1


class _Job:
    """How far one job is."""

    __slots__ = ("effect", "failures", "position")

    def __init__(self, effect: Verify) -> None:
        self.effect = effect
        self.position = 0
        self.failures: list[tuple[int, Refused]] = []
