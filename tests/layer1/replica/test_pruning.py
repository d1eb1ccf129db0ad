"""What the operator did not choose to keep leaves the disk, behind each checkpoint, and holds nothing up."""

from __future__ import annotations

import asyncio
import logging
import threading
from pathlib import Path

import pytest

from layer1.errors import LocalError
from layer1.replica import pruning
from layer1.replica.driver import Replica
from layer1.replica.pruning import HistoryPolicy, Pruner
from layer1.replica.writer import StoreWriter
from layer1.storage.store import Store
from tests.layer1.api.stand_in import Chain, make_genesis
from tests.layer1.replica.test_checkpointing import BLOCKS, checkpointed, new_home, pay, started

KEEP = 3


@pytest.mark.parametrize(
    ("keep", "checkpoint", "first"),
    [(0, 0, 1), (0, 9, 1), (1, 0, 1), (1, 9, 9), (3, 9, 7), (3, 3, 1), (3, 2, 1), (99, 9, 1)],
)
def test_so_many_blocks_stay_up_to_the_checkpoint(keep: int, checkpoint: int, first: int) -> None:
    assert HistoryPolicy(keep).first_kept(checkpoint) == first


def test_fewer_than_none_are_not_kept() -> None:
    with pytest.raises(ValueError, match=r"history\.keep_blocks is -1"):
        HistoryPolicy(-1)


def keeping(home: Path, count: int) -> Path:
    """With this in its configuration."""
    path = home / "replica.toml"
    path.write_text(path.read_text().replace("# keep_blocks = 0", f"keep_blocks = {count}"))
    return home


async def pruned(replica: Replica, oldest: int) -> None:
    """Until this is the first block, or a later one."""
    async with asyncio.timeout(10):
        while replica.store.oldest() < oldest:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_the_disk_holds_what_was_chosen_however_long_the_ledger_lives(tmp_path: Path) -> None:
    """ "Growth on disk bounded by what the operator chose to keep": blocks, journal and checkpoint."""
    pages, journals, checkpoints = list[int](), list[int](), list[int]()
    async with started(keeping(new_home(tmp_path, 10_000), KEEP)) as replica:
        for height in range(BLOCKS, 12 * BLOCKS, BLOCKS):
            await pay(replica, BLOCKS)
            await checkpointed(replica, height)
            fetched = replica._snapshots.oldest()
            assert fetched is not None
            assert replica.core.checkpoint_height - fetched <= 2 * BLOCKS, (
                "the one before, which a peer may be fetching"
            )
            await pruned(replica, fetched - KEEP + 1)
            status = replica.status()
            assert status["oldest_block"] == max(1, fetched - KEEP + 1)
            assert replica.store.height - replica.store.oldest() < KEEP + 3 * BLOCKS
            journals.append(int(status["journal_bytes"] or 0))
            checkpoints.append(replica.config.checkpoint.stat().st_size)
            with replica.store._engine.connect() as connection:
                pages.append(connection.exec_driver_sql("PRAGMA page_count").scalar_one())
    assert pages[-1] <= pages[3], pages
    assert max(journals[2:]) < 1.5 * max(journals[:2]), journals
    assert checkpoints[-1] < checkpoints[3] + 60 * 9 * BLOCKS, "it grows by what the ledger remembers, for a while"
    async with started(replica.config.home) as again:
        assert again.head().header.height >= 11 * BLOCKS
        await pruned(again, again.core.checkpoint_height - KEEP + 1)
        assert again.store.oldest() == again.core.checkpoint_height - KEEP + 1


@pytest.mark.slow
async def test_all_stays_unless_somebody_chose_otherwise(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    async with started(home) as replica:
        await pay(replica, 2 * BLOCKS)
        await checkpointed(replica, 2 * BLOCKS)
        assert replica.status()["oldest_block"] == 1
    async with started(keeping(home, KEEP)) as replica:
        await pruned(replica, 2 * BLOCKS - KEEP + 1)
        assert replica.head().header.height == 2 * BLOCKS


async def test_blocks_are_stored_between_two_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing is deleted that was not asked for, nor after the end."""
    monkeypatch.setattr(pruning, "SLICE_BLOCKS", 2)
    monkeypatch.setattr(pruning, "REST_S", 0.0)
    chain, errors = Chain(make_genesis()), list[LocalError]()
    store = Store.open(tmp_path / "a.db")
    store.append([chain.commit() for _ in range(9)])
    done: list[tuple[int, int]] = []
    writer = StoreWriter(store, errors.append)
    pruner = Pruner(HistoryPolicy(KEEP), store, writer)
    real, gate = Store.prune, threading.Event()

    def watched(self: Store, below: int, limit: int) -> int:
        gate.wait(5)
        count = real(self, below, limit)
        done.append((self.oldest(), self.height))
        return count

    monkeypatch.setattr(Store, "prune", watched)
    pruner.checkpointed(9)
    writer.put([chain.commit()])
    pruner.checkpointed(8)  # late news of an older one
    gate.set()
    async with asyncio.timeout(5):
        while len(done) < 4:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    await asyncio.to_thread(writer.close)
    assert done == [(3, 9), (5, 10), (7, 10), (7, 10)]
    assert errors == []
    store.close()


async def test_a_checkpoint_in_the_last_moment_of_a_slice_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """News that came when nothing was left to delete, and before anybody knew that, waited for the next checkpoint."""
    monkeypatch.setattr(pruning, "REST_S", 0.0)
    chain, errors, loop = Chain(make_genesis()), list[LocalError](), asyncio.get_running_loop()
    store = Store.open(tmp_path / "a.db")
    store.append([chain.commit() for _ in range(9)])
    writer = StoreWriter(store, errors.append)
    pruner = Pruner(HistoryPolicy(KEEP), store, writer)
    real = Store.prune

    def watched(self: Store, below: int, limit: int) -> int:
        count = real(self, below, limit)
        if count == 0:
            loop.call_soon_threadsafe(pruner.checkpointed, 9)
        return count

    monkeypatch.setattr(Store, "prune", watched)
    pruner.checkpointed(5)
    async with asyncio.timeout(5):
        while store.oldest() < 7:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    await asyncio.to_thread(writer.close)
    assert (store.oldest(), errors) == (7, [])
    store.close()


async def test_a_pruner_that_ends_leaves_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pruning, "SLICE_BLOCKS", 2)
    monkeypatch.setattr(pruning, "REST_S", 1_000.0)
    caplog.set_level(logging.INFO)
    chain, errors = Chain(make_genesis()), list[LocalError]()
    store = Store.open(tmp_path / "a.db")
    store.append([chain.commit() for _ in range(9)])
    writer = StoreWriter(store, errors.append)
    pruner = Pruner(HistoryPolicy(KEEP), store, writer)
    pruner.checkpointed(9)
    async with asyncio.timeout(5):
        while pruner._timer is None:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)
    pruner.end()
    assert pruner._timer.cancelled()
    await asyncio.to_thread(writer.close)
    assert (store.oldest(), errors, caplog.messages) == (3, [], [])
    store.close()
