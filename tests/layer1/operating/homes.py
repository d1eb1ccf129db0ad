"""A home with everything in it: stored blocks, a checkpoint, and a journal that goes on from there."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sqlite3
import sys
from pathlib import Path

import pytest

from layer1.codec import decode, encode
from layer1.config import ReplicaConfig, load_config
from layer1.header import Header
from tests.layer1.replica.test_checkpointing import BLOCKS, checkpointed, new_home, pay, started

PAID = 2 * BLOCKS + 2
"""Transfers of one unit from Alice to Bob, each in a block of its own at least."""


async def _live(home: Path) -> None:
    async with started(home) as replica:
        await pay(replica, 2 * BLOCKS)
        await checkpointed(replica, 2 * BLOCKS)
        await pay(replica, PAID - 2 * BLOCKS)


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made once, by a replica that ran."""
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    home = new_home(tmp_path_factory.mktemp("original"))
    asyncio.run(_live(home))
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()
    return home


@pytest.fixture
def home(original: Path, tmp_path: Path) -> ReplicaConfig:
    """A copy to damage."""
    copy = tmp_path / "home"
    shutil.copytree(original, copy)
    return load_config(copy)


def finalize_together(home: ReplicaConfig, first: int, last: int) -> None:
    """Store these blocks as they are where one certificate made them final at once: in a ledger of several replicas."""
    database = sqlite3.connect(home.data / "ledger.sqlite")
    rows = database.execute("SELECT height, header, finalization FROM blocks ORDER BY height").fetchall()
    headers = {height: decode(header, Header) for height, header, _ in rows}
    (certificate,) = [finalization for height, _, finalization in rows if height == last]
    for height in range(first, last):
        path = encode(tuple(headers[above] for above in range(height + 1, last + 1)))
        said = "UPDATE blocks SET finalization = ?, path = ? WHERE height = ?"
        assert database.execute(said, (certificate, path, height)).rowcount == 1
    database.commit()
    database.close()
