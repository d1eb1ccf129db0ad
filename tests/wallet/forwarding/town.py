"""Wallets in a row, each with a channel to the next; routes over them are built by hand."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import pytest

from layer1.ledger.agreements import Lock
from layer1.ledger.locks import preimage_hash
from tests.wallet.conftest import POLICY, World, world_of
from wallet.channel import Channel
from wallet.forwarding.policy import Terms
from wallet.invoices.payee import Wanted
from wallet.lock_news import Ended
from wallet.onion.failure import Told, unwrap
from wallet.onion.packet import Binding, Origin, build
from wallet.onion.route import Hop, Route
from wallet.wallet import Wallet

FEE = 7
DEPOSIT = 10_000


@dataclass
class Row:
    """A, one or two hubs, and B: ``wallets`` by name; channel ``i`` is between wallet i and wallet i + 1."""

    world: World
    names: list[str]
    wallets: dict[str, Wallet]
    channels: list[str]
    bonds: int = 0

    @property
    def payer(self) -> Wallet:
        return self.wallets[self.names[0]]

    @property
    def hub(self) -> Wallet:
        return self.wallets[self.names[1]]

    @property
    def payee(self) -> Wallet:
        return self.wallets[self.names[-1]]

    def side(self, name: str, number: int) -> Channel:
        """A wallet's side of a channel."""
        return self.wallets[name].channel(self.channels[number])

    @property
    def all(self) -> tuple[Wallet, ...]:
        return tuple(self.wallets.values())

    def expiry(self, margins: int = 8) -> int:
        return self.world.chain.state.clock + margins * self.payer.locking.margin_ms + 120_000

    def packet(self, hashed: bytes, secret: bytes, amount: int, expiry: int, fee: int = FEE) -> tuple[bytes, Origin]:
        """For the payee, over all between."""
        nodes = [self.wallets[name].address for name in self.names[1:]]
        hops = tuple(Hop(node, amount + fee * (len(nodes) - 1 - i)) for i, node in enumerate(nodes))
        route = Route(self.side(self.names[0], 0).id, hops, expiry)
        binding = Binding(self.world.genesis.chain_id, hashed, expiry)
        return build(route, binding, os.urandom(32), total=amount, payment_secret=secret)

    async def send(
        self, hashed: bytes, secret: bytes, amount: int, expiry: int = 0, fee: int = FEE
    ) -> tuple[asyncio.Task[Ended], Lock, Origin]:
        """Offer the first lock of a payment."""
        expiry = expiry or self.expiry()
        data, origin = self.packet(hashed, secret, amount, expiry, fee)
        sent, channel = amount + fee * (len(self.names) - 2), self.side(self.names[0], 0)
        lock = await self.payer.locking.begin(channel.id, sent, hashed, expiry, data)
        return asyncio.create_task(self.payer.locking.end_of(channel.id, lock.id)), lock, origin

    async def ask(self, amount: int, *, hold: bool = False) -> tuple[bytes, bytes]:
        """Hash and secret of an invoice of the payee's."""
        issued = await self.payee.invoices.create(Wanted(amount, "bread", hold=hold))
        return issued.invoice.payment_hash, issued.invoice.payment_secret

    async def look(self, after_ms: int = 20) -> None:
        """A block, and everybody looks at it."""
        self.world.chain.block(after_ms=after_ms)
        for wallet in self.all:
            await wallet.channels()

    async def until(self, check: Callable[[], object]) -> None:
        """Let everybody look at layer 1 until it is so."""
        async with asyncio.timeout(20):
            while not check():
                await self.look()
                await asyncio.sleep(0)

    def pass_time(self, until_ms: int) -> None:
        while self.world.chain.state.clock <= until_ms:
            self.world.chain.block(after_ms=60_000)

    async def crash(self, name: str) -> None:
        """The wallet's process ends; what was not durable is gone."""
        wallet = self.wallets.pop(name)
        wallet._parts.host.freeze("the process is gone")
        await wallet.__aexit__()

    async def start(self, name: str) -> Wallet:
        wallet, _ = await self.world.serve(name)
        self.wallets[name] = wallet
        wallet._parts.passages.terms_of = lambda _: Terms(fee_base=FEE)
        return wallet

    def mine(self, name: str) -> list[int]:
        """What a wallet has in each channel of the row, by its newest committed state; bonds aside."""
        groups = self.wallets[name]._parts.host.groups
        found = [groups.get(bytes.fromhex(channel)) for channel in self.channels]
        return [g.committed.body.balances[g.place.index] for g in found if g is not None]

    def check_conserved(self) -> None:
        """Every unit is on layer 1, and each wallet's states add up to what layer 1 holds."""
        for wallet in self.all:
            for group in wallet._parts.host.groups.values():
                body = group.committed.body
                funding = group.place.agreement.funding_units
                assert sum(body.balances) + sum(lock.amount for lock in body.locks) == funding


def code_of(origin: Origin, ended: Ended) -> tuple[int, str]:
    """Which hop says what."""
    assert ended.how == "released", ended
    told: Told = unwrap(origin, ended.reason)
    return told.place, told.failure.code.value


@asynccontextmanager
async def row(
    home: Path, monkeypatch: pytest.MonkeyPatch, *names: str, deposits: tuple[int, int] = (DEPOSIT, DEPOSIT)
) -> AsyncIterator[Row]:
    """Wallets, served, with channels between neighbours; the hubs take a fee."""
    async with world_of(names, home, monkeypatch) as world:
        found = Row(world, list(names), {}, [])
        for name in names:
            await found.start(name)
        for left, right in pairwise(names):
            contact = found.wallets[right].contact
            assert contact is not None and POLICY is not None
            channel = await found.wallets[left].open_channel(
                contact, deposit=deposits[0], peer_deposit=deposits[1], challenge_period_ms=5_000
            )
            found.channels.append(channel.id.hex())
        world.chain.block(after_ms=60_000)
        for name in names:
            for record in found.wallets[name]._parts.book.live():
                await found.wallets[name].channel(record.group_id.hex()).reach()
        await found.look()
        yield found


__all__ = ["DEPOSIT", "FEE", "Row", "code_of", "preimage_hash", "row"]
