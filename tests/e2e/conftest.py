"""One ledger for all tests of a file: what one wallet does is nothing to the others."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from tests.e2e.town import funded


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def net(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Devnet]:
    """Four replicas."""
    async with funded(tmp_path_factory.mktemp("ledger")) as running:
        yield running
