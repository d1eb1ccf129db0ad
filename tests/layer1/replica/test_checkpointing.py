"""Checkpoints on a real disk: killed at every step, damaged, and the ways back."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from layer1.config import load_config
from layer1.devnet import home_of
from layer1.errors import LocalError
from layer1.replica import checkpointing
from layer1.replica.checkpointing import CheckpointTask
from layer1.replica.driver import Replica
from layer1.storage.checkpoint import read_checkpoint
from tests.layer1.replica.network import BOB
from tests.layer1.replica.paying import transfer
from tests.layer1.replica.test_driver import make

pytestmark = pytest.mark.slow

BLOCKS = 5
"""Between two checkpoints."""
STEPS = [
    ("layer1.storage.checkpoint:CheckpointFile.add", "before", 2),
    ("layer1.storage.store:Store.make_durable", "before", 2),
    ("layer1.storage.checkpoint:CheckpointFile.publish", "before", 1),
    ("layer1.storage.checkpoint:CheckpointFile.publish", "after", 2),
    ("layer1.journal:Journal.compact", "before", 1),
    ("layer1.journal:Journal._replace_all", "before", 2),
    ("layer1.journal:_delete", "before", 2),
    ("layer1.journal:Journal.compact", "after", 1),
    ("layer1.storage.store:Store.append", "before", 13),
]


@pytest.fixture(autouse=True)
def _undo_what_a_process_of_its_own_would_keep() -> object:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def new_home(directory: Path, funds: int = 1_000) -> Path:
    """Of a ledger of one replica that takes checkpoints often."""
    make(directory, 1, funds).release()
    home = home_of(directory, 0)
    path = home / "replica.toml"
    path.write_text(path.read_text().replace("# blocks = 5000", f"blocks = {BLOCKS}"))
    assert load_config(home).checkpoints.blocks == BLOCKS
    return home


@asynccontextmanager
async def started(home: Path, *, rebuild: bool = False) -> AsyncIterator[Replica]:
    replica = Replica(load_config(home), rebuild=rebuild)
    try:
        await replica.start()
        yield replica
    finally:
        await replica.stop()


async def pay(replica: Replica, count: int) -> None:
    """One block after the other."""
    for _ in range(count):
        ids = replica.submit([transfer(replica.genesis.chain_id)])
        assert list(await replica.wait_final(ids, 5_000)) == ids


async def checkpointed(replica: Replica, height: int) -> None:
    """Until there is a checkpoint of this height or a later one, and the journal is short."""
    async with asyncio.timeout(10):
        while replica.core.checkpoint_height < height:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(("step", "when", "time"), STEPS, ids=[f"{s.split(':')[1]}-{w}-{t}" for s, w, t in STEPS])
async def test_sigkill_at_any_step_loses_nothing(tmp_path: Path, step: str, when: str, time: int) -> None:
    """ "A crash at any instruction loses nothing that was acknowledged."."""
    home = new_home(tmp_path)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.layer1.replica.killed", str(home), step, when, str(time),
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == -9, "it was to die at this step"
    acknowledged = int(said.split()[-1])
    async with started(home) as replica:
        assert acknowledged <= replica.head().state.balance(BOB.public) <= acknowledged + 1
        assert replica.head().state.root == replica.head().header.state_root
        assert replica.store.height == replica.head().header.height
        await pay(replica, 2 * BLOCKS)
        await checkpointed(replica, BLOCKS)
    async with started(home) as replica:
        assert replica.head().state.balance(BOB.public) >= acknowledged + 2 * BLOCKS


async def test_the_journal_on_disk_stays_bounded_and_a_restart_is_short(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    sizes = []
    async with started(home) as replica:
        for height in range(BLOCKS, 8 * BLOCKS, BLOCKS):
            await pay(replica, BLOCKS)
            await checkpointed(replica, height - 1)
            sizes.append(int(replica.status()["journal_bytes"] or 0))
        head = replica.head()
    assert max(sizes[2:]) < 1.5 * sizes[1]
    async with started(home) as replica:
        assert replica.head().state.root == head.state.root
        assert replica.head().header == head.header
        assert int(replica.status()["checkpoint_height"] or 0) >= 6 * BLOCKS
        assert replica.store.height == head.header.height


async def ended_with_a_checkpoint(home: Path) -> int:
    """A home whose journal was shortened; what Bob has."""
    async with started(home) as replica:
        await pay(replica, 2 * BLOCKS)
        await checkpointed(replica, BLOCKS)
        return replica.head().state.balance(BOB.public)


async def test_a_damaged_checkpoint_stops_with_an_explanation_and_rebuilding_helps(tmp_path: Path) -> None:
    """ "Never a guess: an explanation, and a way back that is safe"."""
    home = new_home(tmp_path)
    balance = await ended_with_a_checkpoint(home)
    path = load_config(home).checkpoint
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(LocalError, match=rf"{path} is damaged.*--rebuild"):
        async with started(home):
            pass
    path.unlink()
    with pytest.raises(LocalError, match=r"whose state was in a checkpoint.*--rebuild"):
        async with started(home):
            pass
    async with started(home, rebuild=True) as replica:
        assert replica.head().state.balance(BOB.public) == balance
        await pay(replica, 1)
        await checkpointed(replica, 2 * BLOCKS)
    assert read_checkpoint(path) is not None
    async with started(home) as replica:
        assert replica.head().state.balance(BOB.public) == balance + 1


async def test_a_lost_database_behind_a_checkpoint_stops_with_an_explanation(tmp_path: Path) -> None:
    """The journal does not hold its blocks any more: guessing would serve a history with a hole."""
    home = new_home(tmp_path)
    await ended_with_a_checkpoint(home)
    for path in (home / "data").glob("ledger.sqlite*"):
        path.unlink()
    with pytest.raises(LocalError, match=r"the database ends at block 0, and the journal goes on from .*--rebuild"):
        async with started(home):
            pass


async def test_the_loop_turns_while_a_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slice at a time; a replica that stops in the middle leaves the one before."""
    monkeypatch.setattr(checkpointing, "SLICE_S", 0.0)
    monkeypatch.setattr(checkpointing, "REST_S", 0.01)
    home, slices = new_home(tmp_path), []
    real = CheckpointTask._write_slice

    def counted(task: CheckpointTask) -> None:
        slices.append(task)
        real(task)

    monkeypatch.setattr(CheckpointTask, "_write_slice", counted)
    async with started(home) as replica:
        await pay(replica, BLOCKS)
        await checkpointed(replica, BLOCKS)
        assert len(slices) == 6  # head, balances, ids, marks, the replica set, and the end
        monkeypatch.setattr(checkpointing, "REST_S", 1_000.0)
        await pay(replica, BLOCKS)
    assert len(set(map(id, slices))) == 2
    files = sorted(path.name for path in (home / "data").iterdir())
    assert "checkpoint" in files and "checkpoint.new" not in files
    async with started(home) as replica:
        assert replica.core.checkpoint_height == BLOCKS
