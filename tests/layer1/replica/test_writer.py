"""The database's thread: everything that was put is stored, and failures are heard of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from layer1.block import CommittedBlock
from layer1.errors import LocalError
from layer1.replica.writer import StoreWriter
from tests.layer1.replica.network import Network, transfer


class FakeStore:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.appended: list[CommittedBlock] = []

    def append(self, blocks: Sequence[CommittedBlock]) -> None:
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


def test_a_failure_stops_the_replica() -> None:
    for error in (LocalError("disk full"), ZeroDivisionError("bug")):
        store: Any = FakeStore(error)
        errors: list[LocalError] = []
        writer = StoreWriter(store, errors.append)
        writer.put(blocks())
        writer.close()
        assert len(errors) == 1
        assert str(error) in str(errors[0])
