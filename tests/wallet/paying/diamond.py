"""Alice and Carol with two hubs between them, all in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.wallet.conftest import World, world_of
from wallet.home import Home
from wallet.invoices.invoice import format_invoice
from wallet.invoices.payee import Wanted
from wallet.local import LocalCommands
from wallet.requests import Progress, Request
from wallet.wallet import Wallet

NAMES = ("alice", "hub", "well", "carol")
EDGES = (("alice", "hub"), ("alice", "well"), ("hub", "carol"), ("well", "carol"))


@dataclass
class Diamond:
    """``channels`` by "one-other", as they were opened."""

    world: World
    wallets: dict[str, Wallet] = field(default_factory=dict)
    channels: dict[str, str] = field(default_factory=dict)

    async def ask(self, amount: int | None, **wanted: Any) -> str:
        """The text of an invoice of Carol's."""
        return format_invoice((await self.wallets["carol"].invoices.create(Wanted(amount, "wood", **wanted))).invoice)

    async def run(self, request: Request[Any], told: list[Progress] | None = None, name: str = "alice") -> Any:
        """As the command line does."""
        commands = LocalCommands(Home(self.world.homes[name].home), self.wallets[name])
        return await commands.run(request, (told if told is not None else []).append)

    def mine(self, name: str) -> dict[str, int]:
        """What a wallet has in its channels, by its newest committed state."""
        groups = self.wallets[name]._parts.host.groups
        found = {edge: groups.get(bytes.fromhex(channel)) for edge, channel in self.channels.items()}
        return {e: g.committed.body.balances[g.place.index] for e, g in found.items() if g is not None}

    async def until(self, check: Callable[[], object], name: str = "alice") -> None:
        """Wait for what links bring."""
        signals = self.wallets[name]._parts.signals
        for _ in range(500):
            if await signals.until(lambda: True if check() else None, 0.02):
                return
        raise AssertionError("it waited in vain")

    async def quiet(self) -> None:
        """Until no lock stands anywhere, and every payer knows it."""
        for name in self.wallets:
            await self.until(lambda: not any(self._locks()), name)

    def _locks(self) -> Iterator[bool]:
        for wallet in self.wallets.values():
            yield wallet.payments.payer.is_busy
            yield from (bool(g.locks or g.committed.body.locks) for g in wallet._parts.host.groups.values())

    async def restart(self, name: str) -> None:
        await self.wallets.pop(name).__aexit__(None, None, None)
        self.wallets[name], _ = await self.world.serve(name)

    def check_conserved(self) -> None:
        """No unit is lost or made, once all is quiet."""
        for edge in self.channels:
            one, other = edge.split("-")
            assert self.mine(one)[edge] + self.mine(other)[edge] == 20_000


@asynccontextmanager
async def diamond(home: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Diamond]:
    """Each channel has 10,000 units on either side; a hub takes 1 unit and a thousandth, which `Tolls` say first."""
    async with world_of(NAMES, home, monkeypatch) as world:
        found, contacts = Diamond(world), {}
        for name in NAMES:
            found.wallets[name], contacts[name] = await world.serve(name)
        for one, other in EDGES:
            channel = await found.wallets[one].open_channel(contacts[other], deposit=10_000, peer_deposit=10_000)
            found.channels[f"{one}-{other}"] = channel.id.hex()
        async with asyncio.timeout(20):
            await found.wallets["alice"].routes.ready()
            await found.until(lambda: all(_knows(found, edge) for edge in found.channels))
        yield found


def _knows(found: Diamond, edge: str) -> bool:
    """Whether Alice has heard what both members of a channel charge."""
    graph, channel = found.wallets["alice"]._routes.graph, bytes.fromhex(found.channels[edge])
    return all(graph.terms(channel, found.wallets[name].address) is not None for name in edge.split("-"))
