"""The queue of account signatures to verify, a millisecond at a time with the loop given back in between.

Source: decision 003; docs/design/consensus.md, "Mempool and batches".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from layer1.ledger.transactions import Transaction
from layer1.replica.events import Verified, Verify
from layer1.replica.jobs import Job, Jobs

SLICE_S = 0.001
"""CPU time of signature verification before the loop gets its turn."""


class VerificationQueue:
    """Jobs, each source in turn, unless one hurries."""

    def __init__(self, check: Callable[[Transaction, bool], None], done: Callable[[Verified], None]) -> None:
        """Make an empty one.

        Args:
            check: Raises `Refused` for a bad transaction; told whether to rehearse it.
            done: Told the outcome of each job.
        """
        self._check = check
        self._done = done
        self._jobs = Jobs()
        self._scheduled = False
        self._over = False

    def __len__(self) -> int:
        """Transactions that wait."""
        return len(self._jobs)

    def put(self, effect: Verify) -> None:
        """Add a job."""
        self._jobs.put(Job(effect))
        self._schedule()

    def hurry(self, number: int) -> None:
        """Do this job next."""
        self._jobs.hurry(number)

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
            job = self._jobs.first()
            while job.left:
                if time.perf_counter() >= until:
                    self._jobs.pass_turn()
                    self._schedule()
                    return
                job.verify_next(self._check)
            self._jobs.done()
            self._done(Verified(job.effect.job, tuple(job.failures)))
