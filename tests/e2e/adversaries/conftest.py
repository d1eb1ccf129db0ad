"""One ledger for all adversaries but those who stop it: what becomes of one group is nothing to another."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from layer1.devnet import Devnet
from tests.e2e.adversaries.hours import Hours, hours
from tests.e2e.adversaries.stage import Stage, stage
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


@pytest_asyncio.fixture(scope="module", loop_scope="package")
async def in_moved_time(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, moved: Hours
) -> AsyncIterator[Stage]:
    """Bob, and the liar of the module that asks, in the time that its tests move."""
    with moved.entered():
        async with stage(tmp_path_factory.mktemp("stage"), moved.net, request.module.__name__) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="package")
async def on(in_moved_time: Stage, moved: Hours) -> Stage:
    """The same for each test: time runs, and the liar talks and listens. Modules in plain time have their own."""
    moved.time.go_on()
    await in_moved_time.mallory.does("behave")
    return in_moved_time
