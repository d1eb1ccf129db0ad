"""What a block, a batch or a transaction costs does not depend on how many others wait."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from types import FrameType
from typing import Any

import msgspec
import pytest

from layer1.block import Batch
from layer1.codec import encode
from layer1.ledger.state import State
from layer1.ledger.transactions import Transaction
from layer1.replica import events
from layer1.replica.application import MAX_PASSED, Application, Part
from layer1.replica.batches import BatchStore
from layer1.replica.mempool import Mempool
from layer1.replica.shares import PoolLimits
from layer1.replica.weight import BUILD_WEIGHT
from tests.layer1.replica.network import EPOCH_MS, GENESIS, Network, named, transfer

FEW, MANY = 40, 400
ONE = transfer()


def other(number: int, valid_until_ms: int = 500_000) -> Transaction:
    """Unlike any other; nobody looks at its signature here."""
    return msgspec.structs.replace(ONE, salt=number.to_bytes(16, "big"), valid_until_ms=valid_until_ms)


def cost(work: Callable[[], Any]) -> int:
    """Instructions of Python that it takes: the same on every machine."""
    count = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal count
        frame.f_trace_opcodes, frame.f_trace_lines = True, False
        count += event == "opcode"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        work()
    finally:
        sys.settrace(before)
    return count


def store(count: int, size: int = 1) -> BatchStore:
    batches = BatchStore(GENESIS.parameters)
    for number in range(count):
        batch = Batch(0, tuple(other(number * size + each) for each in range(size)))
        batches.add_own(encode(batch), batch, [transaction.id for transaction in batch.transactions], number)
    return batches


def looks(batches: BatchStore) -> int:
    return cost(lambda: list(islice(batches.pending(), 4)))


def expires(batches: BatchStore) -> int:
    return cost(lambda: batches.expire(0))


def asks_for_the_oldest(batches: BatchStore) -> int:
    return cost(lambda: batches.oldest(()))


@pytest.mark.parametrize("work", [looks, asks_for_the_oldest])
def test_the_first_batches_cost_the_same_in_any_backlog(work: Callable[[BatchStore], int]) -> None:
    assert work(store(FEW)) == work(store(MANY))


def test_what_expires_is_seen_without_a_look_at_every_transaction() -> None:
    assert expires(store(10, 1)) == expires(store(10, 20))


def backlog(count: int) -> Network:
    """Replica 1, which does not lead, has packed so many batches that go nowhere."""
    network = Network(limits=PoolLimits(batch_transactions=1))
    network.lost = lambda *_: True
    network.submit(1, [transfer() for _ in range(count)])
    network.run_for(1)
    assert len(network.nodes[1].core.batches) == count
    return network


def step(network: Network, event: events.Event) -> tuple[int, list[events.Effect]]:
    effects: list[events.Effect] = []
    return cost(lambda: effects.extend(network.nodes[1].core.step(event, network.now()))), effects


def packing(network: Network) -> Iterator[int]:
    """What each of the next transactions costs until its batch has left."""
    for transaction in [transfer() for _ in range(3)]:
        spent, effects = step(network, events.Submit(named([transaction])))
        [job] = [effect.job for effect in effects if isinstance(effect, events.Verify)]
        network.now_ms += 10
        more, effects = step(network, events.Verified(job, ()))
        yield spent + more
        assert any(isinstance(effect, events.TransmitAll) for effect in effects)


def test_a_batch_is_packed_at_the_same_cost_in_any_backlog() -> None:
    """Every batch that came made the replica look at all that wait: quadratic, when they come faster than blocks."""
    few, many = (list(packing(backlog(count))) for count in (FEW, MANY))
    assert max(many) < 1.1 * max(few)


def test_what_is_final_leaves_at_the_same_cost_in_any_pool() -> None:
    def removing(count: int) -> int:
        pool = Mempool(PoolLimits())
        entries = pool.take(named([other(number) for number in range(count)]), State.genesis(GENESIS), "", 0)
        spent = cost(lambda: pool.remove([entries[count // 2].id]))
        assert len(pool) == count - 1
        return spent

    assert removing(FEW) == removing(MANY)


def test_a_block_is_built_in_a_time_of_its_own_size() -> None:
    """What does not fit is passed over for what does, but not all of it for every block."""
    seen = []

    def candidates(weight: int, count: int) -> Iterator[Part]:
        for number in range(count):
            seen.append(number)
            yield Part(number.to_bytes(32, "big"), b"", (), weight)

    def chosen(*runs: tuple[int, int]) -> int:
        seen.clear()
        application = Application(GENESIS)
        parts = [part for weight, count in runs for part in candidates(weight, count)] if len(runs) > 1 else None
        found = iter(parts) if parts is not None else candidates(*runs[0])
        return len(application.build(1, 0, application.floor.header, EPOCH_MS + 1, found).parts)

    assert chosen((BUILD_WEIGHT * 3 // 10, 10 * MAX_PASSED)) == 3
    assert len(seen) <= MAX_PASSED + 4
    assert chosen((1, 1), (BUILD_WEIGHT, 10 * MAX_PASSED), (1, 1)) == 2, "small ones are never kept out"
