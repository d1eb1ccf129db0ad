"""One ledger for all adversaries but those who stop it: what becomes of one group is nothing to another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from tests.e2e.adversaries.hours import Hours, hours
from tests.e2e.town import funded


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Devnet]:
    """Four replicas."""
    async with funded(tmp_path_factory.mktemp("ledger")) as running:
        yield running


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def moved(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Hours]:
    """Four replicas whose clock a test moves."""
    async with hours(tmp_path_factory.mktemp("moved")) as running:
        yield running
