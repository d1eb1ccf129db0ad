"""Wallets on a ledger in this process: cheap enough for each test to have its own."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from layer1.ledger.genesis import Genesis
from layer2.opening import OpeningPolicy
from tests.wallet.standin import Chain, Client, make_genesis
from wallet import assembly, keystore, session, show, standby
from wallet.home import Config, Home
from wallet.wallet import Created, Wallet

PASSPHRASE = "correct horse battery"
POLICY = OpeningPolicy(accept_deposit_up_to_units=50_000, accept_bond_up_to_units=10_000, min_challenge_ms=100)


@pytest.fixture
def cheap_scrypt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keystore, "SCRYPT_N", 2**4)


@dataclass
class World:
    """A ledger, and two homes with money on it."""

    chain: Chain
    homes: dict[str, Created]
    stack: AsyncExitStack

    async def load(self, name: str) -> Wallet:
        """Open a wallet; it is closed at the end of the test."""
        return await self.stack.enter_async_context(Wallet.load(self.homes[name].home, PASSPHRASE))

    async def serve(self, name: str, policy: OpeningPolicy | None = POLICY) -> tuple[Wallet, str]:
        """Open a wallet and serve it; with its contact."""
        wallet = await self.load(name)
        return wallet, await wallet.serve(None, policy)

    @property
    def genesis(self) -> Genesis:
        return self.chain.genesis


@pytest.fixture
async def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[World]:
    async with world_of(("alice", "bob"), tmp_path, monkeypatch) as found:
        yield found


@asynccontextmanager
async def world_of(names: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[World]:
    """As many homes on one ledger."""
    homes = {name: Wallet.create(tmp_path / name, None, (), PASSPHRASE) for name in names}
    chain = Chain(make_genesis(*(made.spending for made in homes.values())))
    for made in homes.values():
        Home(made.home).connect(chain.genesis, Config(("http://stand-in",)))
    client: Callable[..., Any] = lambda *_, **__: Client(chain)  # noqa: E731
    for module in (assembly, session, show, standby):
        monkeypatch.setattr(module, "LedgerClient", client)
    async with AsyncExitStack() as stack:
        yield World(chain, homes, stack)
