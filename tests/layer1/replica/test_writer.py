"""The database's thread: everything that was put is stored, and failures are heard of."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import pytest

from layer1.block import CommittedBlock
from layer1.errors import LocalError
from layer1.replica.writer import StoreWriter
from layer1.storage.database import Outage
from tests.layer1.replica.network import Network, transfer


class FakeStore:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.appended: list[CommittedBlock] = []
        self.calls = 0

    def append(self, blocks: Sequence[CommittedBlock]) -> None:
        self.calls += 1
        if self.error is not None:
            raise self.error
        self.appended += blocks


def blocks() -> list[CommittedBlock]:
    network = Network()
    network.submit(0, [transfer()])
    network.run_until(network.everybody_has(1))
    network.run_for(3_000)
    return network.nodes[0].delivered


def test_everything_is_stored_in_order_before_it_closes() -> None:
    store: Any = FakeStore()
    errors: list[LocalError] = []
    writer, all_blocks = StoreWriter(store, errors.append), blocks()
    for block in all_blocks:
        writer.put([block])
    writer.close()
    assert store.appended == all_blocks
    assert errors == []


def test_blocks_that_follow_soon_come_along_in_one_transaction() -> None:
    """While one gathers, whoever waits for that block is answered: nobody waits for the database."""
    store: Any = FakeStore()
    errors: list[LocalError] = []
    writer, all_blocks = StoreWriter(store, errors.append, gather_s=60), blocks()
    for block in all_blocks:
        writer.put([block])
    assert not store.appended
    writer.close()
    assert store.appended == all_blocks
    assert store.calls == 1 < len(all_blocks)


def test_a_failure_stops_the_replica() -> None:
    for error in (LocalError("disk full"), ZeroDivisionError("bug")):
        store: Any = FakeStore(error)
        errors: list[LocalError] = []
        writer = StoreWriter(store, errors.append)
        writer.put(blocks())
        writer.close()
        assert len(errors) == 1
        assert str(error) in str(errors[0])


class Restarting:
    """A database that does not answer until it is told to, and then now and then not."""

    def __init__(self, *, answers: bool = False, outages: int = 0) -> None:
        self.answers, self.outages = threading.Event(), outages
        if answers:
            self.answers.set()
        self.asked = threading.Semaphore(0)
        self.appended: list[CommittedBlock] = []

    def append(self, blocks: Sequence[CommittedBlock]) -> None:
        self.try_once()
        self.appended += blocks

    def try_once(self) -> None:
        self.asked.release()
        if not self.answers.is_set():
            raise Outage("connection refused")
        if self.outages:
            self.outages -= 1
            raise Outage("the database system is starting up")


def test_an_outage_is_waited_for_and_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    """The replica goes on; blocks and what comes behind them are done in order once the database is back."""
    store: Any = Restarting()
    errors: list[LocalError] = []
    done: list[int] = []
    writer, all_blocks = StoreWriter(store, errors.append, first_pause_s=0.001), blocks()
    for block in all_blocks:
        writer.put([block])

    def publish() -> None:
        store.try_once()
        done.append(len(store.appended))

    writer.then(publish)
    for _ in range(3):
        assert store.asked.acquire(timeout=10)
    assert writer.waiting == sum(1 + len(block.transactions) for block in all_blocks)
    store.outages = 2
    store.answers.set()
    while writer.waiting:
        assert store.asked.acquire(timeout=10)
    writer.close()
    assert (store.appended, done, errors) == (all_blocks, [len(all_blocks)], [])
    warnings = [record.getMessage().split(";")[0].split(",")[0] for record in caplog.records]
    assert warnings == ["connection refused", "the database answers again"]  # one of each, however many tries


def test_too_much_that_waits_stops_the_replica_and_says_that_nothing_is_lost() -> None:
    store: Any = Restarting()
    errors: list[LocalError] = []
    all_blocks = blocks()
    weight = sum(1 + len(block.transactions) for block in all_blocks)
    writer = StoreWriter(store, errors.append, first_pause_s=0.001, max_waiting=weight)
    writer.put(all_blocks)
    for _ in range(3):
        assert store.asked.acquire(timeout=10)
    writer.put([])
    assert errors == []  # as much as may
    writer.put(all_blocks)
    writer.put(all_blocks)
    writer.close()
    (error,) = errors
    assert f"connection refused; {2 * weight} transactions and blocks wait for the database" in str(error)
    assert f"at most {weight} may. The journal has all of them" in str(error)


def test_a_slow_database_is_no_outage() -> None:
    store: Any = Restarting(answers=True)
    errors: list[LocalError] = []
    writer = StoreWriter(store, errors.append, max_waiting=0)
    for block in blocks():
        writer.put([block])
    writer.close()
    assert errors == []


def test_in_an_outage_it_closes_after_one_more_try(caplog: pytest.LogCaptureFixture) -> None:
    """SIGTERM must not wait for a database that is gone; the journal has what was not stored."""
    store: Any = Restarting()
    errors: list[LocalError] = []
    writer = StoreWriter(store, errors.append, first_pause_s=3_600)
    writer.put(blocks())
    assert store.asked.acquire(timeout=10)
    writer.close()
    assert errors == store.appended == []
    assert "what is not stored is in the journal" in caplog.records[-1].getMessage()
