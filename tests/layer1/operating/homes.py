"""A home with everything in it: stored blocks, a checkpoint, and a journal that goes on from there."""

from __future__ import annotations

import asyncio
import gc
import shutil
import sys
from pathlib import Path

import pytest

from layer1.config import ReplicaConfig, load_config
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
