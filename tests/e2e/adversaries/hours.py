"""A ledger whose clock a test moves: locks are good for minutes, and what a millisecond decides is told by it."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from msgspec import structs

from layer1.client import LedgerClient
from layer1.devnet import Devnet
from tests.e2e.moved_time import MovedTime
from tests.e2e.town import ENVIRONMENT, PARAMETERS, TREASURY, funded
from wallet.period import margin_ms

HOUR_MS = 3_600_000


@dataclass(frozen=True)
class Hours:
    """The ledger, and the time in which it lives."""

    net: Devnet
    time: MovedTime

    @property
    def margin_ms(self) -> int:
        """M of rule 22."""
        return margin_ms(self.net.genesis)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """This process, and those that it starts, live in that time."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", self.time.time_ns)
            for name, value in self.time.environment().items():
                patch.setitem(ENVIRONMENT, name, value)
            yield
        self.time.go_on()

    async def stand(self, ledger: LedgerClient, clock_ms: int) -> None:
        """Have all blocks from now on at this ledger clock; the first of them is there.

        The ledger clock follows the wall clock, from 0 at the genesis, for no step is too long for this ledger. While
        it stands no heartbeat is due, so a block is made by bringing something.
        """
        self.time.stand(self.net.genesis.wall_time + clock_ms)
        await ledger.submit(await ledger.new_transfer(TREASURY, TREASURY.public, 1))
        assert await ledger.clock() == clock_ms, "the clock does not go backwards"


@asynccontextmanager
async def hours(folder: Path) -> AsyncIterator[Hours]:
    """Start the ledger in its time."""
    moved = MovedTime(folder / "time")
    parameters = structs.replace(PARAMETERS, max_step_ms=HOUR_MS)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in moved.environment().items():
            patch.setenv(name, value)
        running = funded(folder / "ledger", parameters)
        net = await running.__aenter__()
    try:
        yield Hours(net, moved)
    finally:
        await running.__aexit__(None, None, None)
