"""A snapshot takes the place of what a replica has, whatever crash comes in between."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from layer1.config import ReplicaConfig, load_config
from layer1.errors import LocalError
from layer1.header import Header
from layer1.replica import installing
from layer1.replica.installing import finish_install, head_of, install, ready_path
from layer1.storage.store import Store
from tests.layer1.replica.network import BOB
from tests.layer1.replica.test_checkpointing import BLOCKS, checkpointed, new_home, pay, started

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Homes:
    """Of one replica: as it was, and a snapshot of what it came to."""

    early: Path
    """Stopped with `BLOCKS` + 2 blocks, and a checkpoint of block `BLOCKS`."""
    late: Path
    """Stopped with a checkpoint that is at least `BLOCKS` blocks later."""


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory) -> Homes:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    directory = tmp_path_factory.mktemp("homes")
    late, early = new_home(directory), directory / "early"
    asyncio.run(_live(late, early))
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()
    return Homes(early, late)


async def _live(home: Path, early: Path) -> None:
    async with started(home) as replica:
        await pay(replica, BLOCKS + 2)
        await checkpointed(replica, BLOCKS)
    shutil.copytree(home, early)
    async with started(home) as replica:
        await pay(replica, 2 * BLOCKS)
        await checkpointed(replica, 2 * BLOCKS + 2)


@pytest.fixture
def config(homes: Homes, tmp_path: Path) -> ReplicaConfig:
    """The early one, to change, with the later snapshot beside it."""
    shutil.copytree(homes.early, tmp_path / "home")
    shutil.copy(load_config(homes.late).checkpoint, tmp_path / "home" / "data" / "snapshot")
    return load_config(tmp_path / "home")


def snapshot_of(config: ReplicaConfig) -> Path:
    return config.data / "snapshot"


def opened(config: ReplicaConfig) -> Store:
    return Store.open(config.database_url)


def is_in_place(config: ReplicaConfig, header: Header) -> bool:
    store = opened(config)
    base, height = store.base, store.height
    store.close()
    files = {path.name for path in config.data.iterdir()} & {"snapshot", "checkpoint.ready"}
    return (base.id, height, files) == (header.id, header.height, set()) and (
        head_of(config.checkpoint).header == header
    )


async def test_a_replica_goes_on_from_a_snapshot(homes: Homes, config: ReplicaConfig) -> None:
    """Blocks below it are gone, votes are not; what comes follows on it."""
    store, before = opened(config), sorted(path.read_bytes() for path in config.journal.glob("segment-*"))
    head = install(config, store, snapshot_of(config))
    store.close()
    assert is_in_place(config, head.header)
    assert before == sorted(path.read_bytes() for path in config.journal.glob("segment-*"))
    async with started(config.home) as replica:
        assert replica.head().header.height == head.header.height > BLOCKS + 2
        paid = replica.head().state.balance(BOB.public)
        await pay(replica, BLOCKS)
        await checkpointed(replica, head.header.height + BLOCKS)
        assert replica.store.oldest() == head.header.height + 1
    async with started(config.home) as replica:
        assert replica.head().state.balance(BOB.public) == paid + BLOCKS


class Crash(Exception):
    """The process ends here."""


STEPS = [
    ("before the file is ready", "_rename", 1, "before"),
    ("after the file is ready", "_rename", 1, "after"),
    ("before the database begins anew", "Store.begin_at", 1, "before"),
    ("while the database empties", "Store.prune", 1, "before"),
    ("after the database began anew", "Store.begin_at", 1, "after"),
    ("before it is the checkpoint", "_rename", 2, "before"),
    ("after it is the checkpoint", "_rename", 2, "after"),
]


@pytest.mark.parametrize(("name", "time", "when"), [step[1:] for step in STEPS], ids=[step[0] for step in STEPS])
def test_a_crash_at_any_step_leaves_the_old_or_the_new(
    config: ReplicaConfig, monkeypatch: pytest.MonkeyPatch, name: str, time: int, when: str
) -> None:
    owner: object = Store if name.startswith("Store.") else installing
    real, calls = getattr(owner, name.removeprefix("Store.")), 0
    old, new = head_of(config.checkpoint).header, head_of(snapshot_of(config)).header

    def deadly(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if (calls, when) == (time, "before"):
            raise Crash
        found = real(*arguments)
        if calls == time:
            raise Crash
        return found

    with monkeypatch.context() as patch:
        patch.setattr(owner, name.removeprefix("Store."), deadly)
        store = opened(config)
        with pytest.raises(Crash):
            install(config, store, snapshot_of(config))
        store.close()
    store = opened(config)
    finished = finish_install(config, store)
    assert finish_install(config, store) is None, "once is enough"
    store.close()
    if snapshot_of(config).exists():
        assert (finished, head_of(config.checkpoint).header) == (None, old)
        assert opened(config).oldest() == 1
    else:
        assert is_in_place(config, new)
        assert finished is None if (name, time, when) == ("_rename", 2, "after") else finished is not None


def test_what_is_not_certified_changes_nothing(homes: Homes, config: ReplicaConfig) -> None:
    snapshot, store = snapshot_of(config), opened(config)
    data = bytearray(snapshot.read_bytes())
    data[len(data) // 2] ^= 1
    snapshot.write_bytes(data)
    with pytest.raises(LocalError, match="is damaged"):
        install(config, store, snapshot)
    shutil.copy(homes.early / "data" / "checkpoint", snapshot)
    shutil.copy(homes.late / "data" / "checkpoint", config.checkpoint)
    with pytest.raises(LocalError, match=rf"of block {BLOCKS}, and the newest checkpoint here of block .* nothing was"):
        install(config, store, snapshot)
    with pytest.raises(LocalError, match="there is no snapshot"):
        install(config, store, config.data / "nothing")
    assert (store.oldest(), ready_path(config).exists()) == (1, False)
    store.close()


def test_a_file_that_was_damaged_while_it_waited_is_told_apart(config: ReplicaConfig) -> None:
    store = opened(config)
    ready_path(config).write_bytes(b"nonsense" * 10)
    with pytest.raises(LocalError, match=r"was being put in place, and .* Delete .*checkpoint\.ready, and start again"):
        finish_install(config, store)
    assert store.oldest() == 1
    store.close()


def test_a_file_that_is_over_goes_away(homes: Homes, config: ReplicaConfig) -> None:
    """A checkpoint goes forward only: the journal begins where the newest one ends."""
    store = opened(config)
    shutil.copy(config.checkpoint, ready_path(config))
    shutil.copy(homes.late / "data" / "checkpoint", config.checkpoint)
    newest = head_of(config.checkpoint)
    assert finish_install(config, store) is None
    assert (head_of(config.checkpoint), ready_path(config).exists(), store.oldest()) == (newest, False, 1)
    store.close()


def test_blocks_that_lead_up_to_it_stay(homes: Homes, config: ReplicaConfig) -> None:
    """The database of an archive that has them: nothing is thrown away that nobody asked to throw away."""
    shutil.rmtree(config.data)
    shutil.copytree(homes.late / "data", config.data)
    shutil.move(config.checkpoint, snapshot_of(config))
    store = opened(config)
    height = store.height
    install(config, store, snapshot_of(config))
    assert (store.oldest(), store.height) == (1, height)
    store.close()


async def test_who_lost_what_its_journal_goes_on_from_may_start_from_an_earlier_snapshot(
    homes: Homes, tmp_path: Path
) -> None:
    """`--rebuild` took what peers offered: the start that puts it in place asks for no other, and knows its votes."""
    shutil.copytree(homes.late, tmp_path / "home")
    config = load_config(tmp_path / "home")
    shutil.move(config.checkpoint, config.data / "snapshot")
    shutil.copy(load_config(homes.early).checkpoint, config.checkpoint)
    with pytest.raises(LocalError, match=r"the journal goes on from block \d+, whose state was in a checkpoint"):
        async with started(config.home):
            pass
    shutil.move(config.checkpoint, ready_path(config))
    async with started(config.home) as replica:
        assert replica.head().header.height == BLOCKS
        assert replica.core.consensus.vote_from > replica.head().header.view


async def test_what_a_crash_left_of_a_download_is_gone_after_a_start(config: ReplicaConfig) -> None:
    left = (config.snapshot, config.snapshot.with_name("snapshot.new"))
    left[1].write_bytes(b"half of it")
    assert left[0].exists()
    async with started(config.home) as replica:
        assert replica.head().header.height >= BLOCKS + 2
    assert not any(path.exists() for path in left)
