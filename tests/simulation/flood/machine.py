"""A replica whose processor takes its time: one turn of the loop, one slice of verification, one after the other.

The simulator's replicas compute in no time. Here whatever the real code does is counted, and what follows has to wait:
signatures checked, transactions executed, requests and messages taken, each at what it was measured to cost. Signature
checks are remembered from replica to replica, but each counts as often as it is asked for.

What depends on the number of transactions is multiplied by a *scale*: with a scale of 25, a ledger whose blocks hold a
25th of the signatures keeps the proportions of the whole one, in the same simulated time, and is run in a 25th of the
real one. Votes and messages cost what they cost: their number per block does not change.

Source: docs/design/limits.md; `layer1.replica.driver`, `layer1.replica.verifying`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from layer1 import crypto
from layer1.consensus.events import Now
from layer1.ledger.execute import Execution
from layer1.ledger.execute import execute as really_execute
from layer1.ledger.state import State
from layer1.ledger.transactions import Transaction
from layer1.replica import application, events
from layer1.replica.jobs import Job, Jobs
from layer1.replica.mempool import check_entry
from tests.simulation.kernel import MS
from tests.simulation.replica import VERIFY_US, OnRefused, Replica, _Life

EXECUTE_US = 50
"""Of all else about a transaction in a block: decoding, executing, hashing, journaling (`weight.BUILD_WEIGHT`)."""
FORM_US = 3
"""To look at a transaction before its signatures are verified: its id, its encoding."""
REQUEST_US = 117
"""Of a request over HTTP with one transaction (limits.md)."""
LISTED_US = 14
"""Of each transaction in a request with many."""
MESSAGE_US = 20
"""Of a message on a link, on either side."""
SLICE_US = 1 * MS
"""Verification gives the processor back after this, as the driver's."""


class Meter:
    """What was done so far, in microseconds of one processor, by all replicas together: they compute one at a time."""

    def __init__(self, scale: int) -> None:
        self.scale = scale
        self.us = 0
        self._of_ledger = False

    @contextmanager
    def ledger(self) -> Iterator[None]:
        """What is done within is for transactions, and is scaled."""
        before, self._of_ledger = self._of_ledger, True
        try:
            yield
        finally:
            self._of_ledger = before

    def add(self, us: int) -> None:
        """So much was done."""
        self.us += us * (self.scale if self._of_ledger else 1)

    def execute(self, parent: State, wall_time: int, transactions: Sequence[Transaction]) -> Execution:
        """Stands in for `layer1.ledger.execute.execute`, and counts."""
        with self.ledger():
            self.add(EXECUTE_US * len(transactions))
            return really_execute(parent, wall_time, transactions)

    @contextmanager
    def reads(self) -> Iterator[None]:
        """Count every check of a signature, and every execution, within this."""
        before = vars(crypto)["sodium"]
        vars(crypto)["sodium"] = _Counting(before, self)
        vars(application)["execute"] = self.execute
        try:
            yield
        finally:
            vars(crypto)["sodium"] = before
            vars(application)["execute"] = really_execute


class _Counting:
    """The library, or a memo of it, with a meter at `crypto_sign_open`."""

    def __init__(self, library: Any, meter: Meter) -> None:
        self._library, self._meter = library, meter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)

    def crypto_sign_open(self, signed: bytes, public: bytes) -> bytes:
        self._meter.add(VERIFY_US)
        opened: bytes = self._library.crypto_sign_open(signed, public)
        return opened


class BusyReplica(Replica):
    """A replica on one processor."""

    meter: Meter

    def power_on(self, meter: Meter) -> None:
        """Before it starts."""
        self.meter = meter
        self.busy_us = 0
        """In all."""
        self._free_us = 0
        self._began_us = 0
        self._jobs = Jobs()
        self._is_due = False
        self._verified_last = False

    # ----------------------------------------------------------------------------------- turns and slices in turn

    def _schedule_turn(self, life: _Life) -> None:
        self._schedule(life)

    def _schedule(self, life: _Life) -> None:
        if not self._is_due:
            self._is_due = True
            self.world.schedule(max(self.world.now_us, self._free_us), partial(self._go_on, life))

    def _go_on(self, life: _Life) -> None:
        self._is_due = False
        if self.life is not life:
            return
        if self._free_us > self.world.now_us:
            self._schedule(life)
            return
        may_turn = bool(life.inbox) and not life.in_turn
        if may_turn and (self._verified_last or not self._jobs):
            self._verified_last, self._began_us = False, self.meter.us
            self._turn(life)
        elif self._jobs:
            self._verified_last = True
            self._verify_slice(life)
        if self._jobs or (life.inbox and not life.in_turn):
            self._schedule(life)

    def _computed(self, follows: Callable[[], None]) -> None:
        self.world.after(self._occupy(self.meter.us - self._began_us), follows)

    def _occupy(self, us: int) -> int:
        """The processor is taken for so long from now on."""
        self.busy_us += us
        self._free_us = self.world.now_us + us
        return us

    # -------------------------------------------------------------------------------------------------- what is counted

    def _step(self, life: _Life, event: events.Event, answer: OnRefused | None, now: Now) -> None:
        match event:
            case events.Submit():
                with self.meter.ledger():
                    count = len(event.transactions)
                    self.meter.add(REQUEST_US if count == 1 else LISTED_US * count)
            case events.FromPeer():
                self.meter.add(MESSAGE_US)
            case _:
                pass
        super()._step(life, event, answer, now)

    def _perform(self, life: _Life, effect: events.Effect) -> None:
        match effect:
            case events.Verify():
                self._jobs.put(Job(effect))
                self._schedule(life)
            case events.Hurry():
                self._jobs.hurry(effect.job)
            case events.Transmit():
                self.meter.add(MESSAGE_US)
                super()._perform(life, effect)
            case events.TransmitAll():
                self.meter.add(MESSAGE_US * (len(self.genesis.replicas) - 1))
                super()._perform(life, effect)
            case _:
                super()._perform(life, effect)

    # ------------------------------------------------------------------------------------------------- verification

    def _verify_slice(self, life: _Life) -> None:
        """As `layer1.replica.verifying` does, by the meter instead of the clock."""
        began_us, done = self.meter.us, list[events.Event]()
        while self._jobs and self.meter.us < began_us + SLICE_US:
            job = self._jobs.first()
            while job.left and self.meter.us < began_us + SLICE_US:
                job.verify_next(self._check)
            if not job.left:
                self._jobs.done()
                done.append(events.Verified(job.effect.job, tuple(job.failures)))
        self._jobs.pass_turn()
        self.world.after(self._occupy(self.meter.us - began_us), partial(self._tell, life, done))

    def _tell(self, life: _Life, done: Sequence[events.Event]) -> None:
        if self.life is life:
            for event in done:
                self._put(event)

    def _check(self, transaction: Transaction, rehearsed: bool) -> None:
        with self.meter.ledger():
            self.meter.add(FORM_US)
            check_entry(self.core.application.floor.state, transaction, self.genesis.chain_id, rehearsed=rehearsed)
