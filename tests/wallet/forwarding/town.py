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

from layer1.errors import LocalError
from layer1.ledger.records import Status
from tests.wallet.conftest import POLICY, World, world_of
from wallet.channel import Channel
from wallet.forwarding.policy import Terms
from wallet.invoices.payee import Wanted
from wallet.invoices.records import Stage
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
    addresses: dict[str, bytes]
    patience_s: float = 20

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

    def packet(
        self, hashed: bytes, secret: bytes, amount: int, expiry: int, *, fee: int = FEE, path: list[str] | None = None
    ) -> tuple[bytes, Origin]:
        """For the last of a path, over all between."""
        nodes = [self.addresses[name] for name in (path or self.names)[1:]]
        hops = tuple(Hop(node, amount + fee * (len(nodes) - 1 - i)) for i, node in enumerate(nodes))
        binding = Binding(self.world.genesis.chain_id, hashed, expiry)
        return build(Route(bytes(32), hops, expiry), binding, os.urandom(32), total=amount, payment_secret=secret)

    def offer(
        self, hashed: bytes, secret: bytes, amount: int, *, expiry: int = 0, fee: int = FEE, back: bool = False
    ) -> tuple[asyncio.Task[Ended], Origin]:
        """Offer the first lock of a payment, from the first to the last, or `back`; when it is over tells the task."""
        path, expiry = self.names[::-1] if back else self.names, expiry or self.expiry()
        data, origin = self.packet(hashed, secret, amount, expiry, fee=fee, path=path)
        wallet, channel = self.wallets[path[0]], self.channels[-1 if back else 0]
        sent = amount + fee * (len(path) - 2)
        return asyncio.create_task(wallet.locking.offer(bytes.fromhex(channel), sent, hashed, expiry, data)), origin

    async def ask(self, amount: int, *, hold: bool = False, back: bool = False) -> tuple[bytes, bytes]:
        """Hash and secret of an invoice of the payee's."""
        payee = self.payer if back else self.payee
        issued = await payee.invoices.create(Wanted(amount, "bread", hold=hold))
        return issued.invoice.payment_hash, issued.invoice.payment_secret

    async def look(self, after_ms: int = 20) -> None:
        """A block, and everybody looks at it."""
        self.world.chain.block(after_ms=after_ms)
        for wallet in self.all:
            await wallet.channels()

    async def until(self, check: Callable[[], object]) -> None:
        """Let everybody look at layer 1 until it is so."""
        async with asyncio.timeout(self.patience_s):
            while not check():
                await self.look()
                await asyncio.sleep(0)

    async def held(self, amount: int = 500) -> tuple[bytes, asyncio.Task[Ended], Origin]:
        """A payment that the payee holds: hash, what its payer waits for, and what reads a failure."""
        hashed, secret = await self.ask(amount, hold=True)
        paying, origin = self.offer(hashed, secret, amount)
        await self.until(lambda: stage_of(self, hashed) is Stage.HELD)
        return hashed, paying, origin

    async def closed(self, number: int) -> None:
        """Let the challenge period of a wedged channel pass, and everybody see how layer 1 settled it."""
        channel = bytes.fromhex(self.channels[number])

        def status() -> Status | None:
            shown = self.world.chain.state.group(channel)
            return None if shown is None else shown.status

        await self.until(lambda: status() is not Status.OPEN)
        await self.look(after_ms=5_100)
        await self.until(lambda: status() is Status.CLOSED)

    def pass_time(self, until_ms: int) -> None:
        while self.world.chain.state.clock <= until_ms:
            self.world.chain.block(after_ms=1_000)

    def doom(self, name: str, turn: int, *, durable: bool) -> asyncio.Event:
        """End a wallet's process as it ends its turn of this number, before or after the turn is durable; set then.

        Nothing of that turn leaves, and what was not durable is gone.
        """
        journal, gone, left = self.wallets[name]._parts.host._journal, asyncio.Event(), turn
        sync = journal.sync

        def last_sync() -> None:
            nonlocal left
            left -= bool(journal._buffer)
            if left >= 0 and not gone.is_set():
                return sync()
            if durable and not gone.is_set():
                sync()
            journal._refusal = "the process is gone"
            gone.set()
            raise LocalError("the process is gone")

        journal.sync = last_sync  # type: ignore[method-assign]
        return gone

    async def stop(self, name: str) -> None:
        """End a wallet; what it had not made durable is gone."""
        wallet = self.wallets.pop(name)
        wallet._parts.host._journal._refusal = "the process is gone"
        wallet._parts.host.freeze("the process is gone")
        await wallet.__aexit__()

    async def restart(self, name: str) -> Wallet:
        """End a wallet as :meth:`stop`, and start it again."""
        await self.stop(name)
        return await self.start(name)

    def rests(self, *, held: bool = False) -> bool:
        """Whether all are in step and nothing is under way; and no lock stands, unless some are `held`."""
        groups = [group for wallet in self.all for group in wallet._parts.host.groups.values() if not group.closed]
        moving = [group for group in groups if group.outbox or group.queue or group.pending is not None]
        locked = [group for group in groups if group.locks or group.committed.body.locks]
        return all(group.connected for group in groups) and not moving and (held or not locked)

    async def start(self, name: str, listen: str | None = None) -> Wallet:
        """Serve a wallet, where it was or at `listen`."""
        wallet = await self.world.load(name)
        await wallet.serve(listen, POLICY)
        self.wallets[name] = wallet
        self.addresses[name] = wallet.address
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


def stage_of(row: Row, hashed: bytes, *, back: bool = False) -> Stage:
    """Of the payee's invoice."""
    issued = (row.payer if back else row.payee).invoices.get(hashed)
    assert issued is not None
    return issued.stage


async def settle(row: Row, hashed: bytes, *, back: bool = False) -> None:
    """The payee claims what it holds."""
    await (row.payer if back else row.payee).invoices.settle(hashed.hex())


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
        found = Row(world, list(names), {}, [], {})
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


__all__ = ["DEPOSIT", "FEE", "Row", "code_of", "row", "settle", "stage_of"]
