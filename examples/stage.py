"""A ledger of four real processes and funded wallets in a fresh folder, for a demo or a measurement.

async with stage("alice", "bob") as play:
    async with Wallet.load(play.homes["alice"], PASSPHRASE) as alice: ...
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

from layer1.client import LedgerClient
from layer1.crypto import SigningKey
from layer1.devnet import Devnet, Plan, initialize
from layer1.ledger.genesis import Allocation, Currency
from wallet.wallet import Wallet

PASSPHRASE = "a passphrase for a demo, worth nothing"
FUNDS = 10_000_000
"""Minor units in each spending account: 100,000.00."""
MONEY = Currency("WDG", 2)


@dataclass(frozen=True, slots=True)
class Play:
    """What is on the stage."""

    net: Devnet
    homes: dict[str, Path]
    """The wallets' homes, by name."""


@contextlib.asynccontextmanager
async def stage(*names: str, currency: Currency = MONEY) -> AsyncIterator[Play]:
    """Start a ledger, make a wallet for each name and fund it; stop and remove everything at the end."""
    treasury = SigningKey.generate()
    with tempfile.TemporaryDirectory(prefix="wedge-") as name:
        folder = Path(name)
        supply = Allocation(treasury.public, FUNDS * max(1, len(names)))
        plan = Plan(allocations=(supply,), currency=currency)
        await asyncio.to_thread(initialize, folder / "ledger", plan)
        async with Devnet(folder / "ledger") as net:
            homes = {who: folder / who for who in names}
            await _fund(net, treasury, homes)
            yield Play(net, homes)


async def _fund(net: Devnet, treasury: SigningKey, homes: dict[str, Path]) -> None:
    made = [Wallet.create(home, net.genesis, net.urls, PASSPHRASE) for home in homes.values()]
    async with LedgerClient(net.urls, net.genesis) as client:
        transfers = [await client.new_transfer(treasury, one.spending, FUNDS) for one in made]
        outputs = await client.submit_many(transfers)
    refused = [output.message for output in outputs if output.code != "ok"]
    if refused:
        raise RuntimeError(f"the wallets could not be funded: {refused}")
