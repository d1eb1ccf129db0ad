"""One ledger for all adversaries but those who stop it: what becomes of one group is nothing to another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation, Parameters
from tests.e2e.town import FUNDS, TREASURY


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Devnet]:
    """Four replicas."""
    directory = tmp_path_factory.mktemp("ledger")
    allocations = (Allocation(TREASURY.public, 1_000 * FUNDS),)
    initialize(directory, Plan(allocations=allocations, parameters=Parameters(view_timeout_ms=300, heartbeat_ms=1_000)))
    async with Devnet(directory) as running:
        yield running
