"""Three wallets in a row: what is forwarded, paid, held and given back, and books in which no unit is missing."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from layer1.crypto import Hash
from layer1.ledger.locks import preimage_hash
from tests.wallet.conftest import World, world_of
from tests.wallet.standin import FUNDS
from wallet.channel import Channel
from wallet.invoices.invoice import Hint, format_invoice, parse_invoice
from wallet.invoices.payee import MOST_HINTS, Wanted
from wallet.invoices.qr import draw
from wallet.invoices.records import Issued, Stage
from wallet.onion.packet import Binding, build, build_spontaneous
from wallet.requests import BooksView, ChannelBooksView
from wallet.routing.desk import Found, Wish
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow
NAMES = ("alice", "bob", "carol")


class Row:
    """Alice - Bob - Carol; Bob forwards."""

    def __init__(self, world: World, wallets: dict[str, Wallet], first: Channel, second: Channel) -> None:
        self.world, self.wallets, self.first, self.second = world, wallets, first, second
        self.alice, self.bob, self.carol = (wallets[name] for name in NAMES)

    async def until(self, wallet: Wallet, check: object) -> None:
        for _ in range(200):
            if await wallet._parts.signals.until(lambda: check() or None, 0.05):  # type: ignore[operator]
                return
        raise AssertionError("it waited in vain")

    async def found(self, amount: int) -> Found:
        await self.alice.routes.ready()
        expiry_ms = await self.alice._parts.ledger.clock() + 3_000_000
        return self.alice.routes.find(Wish(self.carol.address, amount, expiry_ms))

    async def offer(self, issued: Issued, amount: int, total: int) -> int:
        """A part of Alice's for Carol's invoice, over Bob; its lock."""
        route, invoice = (await self.found(amount)).route, issued.invoice
        binding = Binding(invoice.chain_id, invoice.payment_hash, route.expiry_ms)
        packet, _ = build(route, binding, os.urandom(32), total=total, payment_secret=invoice.payment_secret)
        lock = await self.alice.locking.begin(route.group_id, route.sent, invoice.payment_hash, route.expiry_ms, packet)
        return lock.id

    async def give(self, preimage: bytes, amount: int) -> int:
        route = (await self.found(amount)).route
        binding = Binding(self.world.genesis.chain_id, preimage_hash(preimage), route.expiry_ms)
        packet, _ = build_spontaneous(route, binding, os.urandom(32), total=amount, preimage=preimage)
        hashed = preimage_hash(preimage)
        return (await self.alice.locking.begin(route.group_id, route.sent, hashed, route.expiry_ms, packet)).id

    async def end(self, number: int) -> str:
        async with asyncio.timeout(10):
            return (await self.alice.locking.end_of(self.first.id, number)).how

    async def books(self) -> dict[str, BooksView]:
        """Of all three; each is whole, and layer 1 has what they have together."""
        found = {name: await wallet.books() for name, wallet in self.wallets.items()}
        for name, books in found.items():
            assert books.adds_up, (name, books.differences)
            for channel in books.channels:
                assert channel.by_history is not None, (name, channel)
                state = channel.balance + channel.peer_balance + channel.locked + channel.bond + channel.peer_bond
                assert channel.on_ledger == state
        by_channel = {line.id: line for books in found.values() for line in books.channels}
        locked = sum(line.locked for line in by_channel.values())
        assert sum(books.total for books in found.values()) + locked == len(NAMES) * FUNDS
        return found

    def line(self, books: BooksView, channel_id: Hash) -> ChannelBooksView:
        return next(line for line in books.channels if line.id == channel_id.hex())


@pytest.fixture
async def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cheap_scrypt: None) -> AsyncIterator[Row]:
    async with world_of(NAMES, tmp_path, monkeypatch) as world:
        served = {name: await world.serve(name) for name in NAMES}
        wallets = {name: wallet for name, (wallet, _) in served.items()}

        async def opened(one: str, other: str) -> Channel:
            contact = served[other][1]
            return await wallets[one].open_channel(contact, deposit=20_000, peer_deposit=10_000, bond=1_000)

        first, second = await opened("alice", "bob"), await opened("bob", "carol")
        await wallets["alice"].routes.ready()
        wallets["bob"].tolls.set_fee(second.record, 7, 1_000)  # 7 units and a thousandth
        found = Row(world, wallets, first, second)
        bob, carol = found.bob, found.carol
        for wallet in (found.alice, carol):
            graph = wallet._routes.graph
            await found.until(wallet, lambda graph=graph: _base(graph, second.id, bob.address) == 7)
        yield found


def _base(graph: object, channel: Hash, node: bytes) -> int | None:
    terms = graph.terms(channel, node)  # type: ignore[attr-defined]
    return None if terms is None else terms.fee_base


async def test_every_unit_is_in_the_books_of_all_three(row: Row) -> None:
    """Paid in parts over a forwarder, given, held at both sides, direct, and at the end closed."""
    paid = await row.carol.invoices.create(Wanted(3_000, "wood"))
    parts = [await row.offer(paid, amount, 3_000) for amount in (1_000, 2_000)]
    assert [await row.end(number) for number in parts] == ["claimed"] * 2
    assert await row.end(await row.give(b"g" * 32, 500)) == "claimed"
    await row.first.pay(100)
    await row.until(row.carol, lambda: row.carol.invoices.get(paid.payment_hash).received == 3_000)  # type: ignore[union-attr]
    await row.until(row.bob, lambda: row.bob.channel(row.first.id.hex()).view().can_receive == 20_000 - 3_625)
    # fees: 7 + 1, 7 + 2, 7 + 1
    held = await row.carol.invoices.create(Wanted(4_000, "stone", hold=True))
    number = await row.offer(held, 4_000, 4_000)
    await row.until(row.carol, lambda: row.carol.invoices.get(held.payment_hash).stage is Stage.HELD)  # type: ignore[union-attr]
    books = await row.books()
    assert (books["alice"].total, books["alice"].locked_by_us) == (FUNDS - 3_625 - 4_011, 4_011)
    assert (books["bob"].total, books["bob"].in_locks, books["bob"].locked_by_us) == (FUNDS + 125 - 4_000, 8_011, 4_000)
    assert (books["carol"].total, books["carol"].in_locks) == (FUNDS + 3_500, 4_000)
    assert (books["bob"].fees_earned, books["alice"].fees_earned, books["carol"].fees_earned) == (25, 0, 0)
    into, out = row.line(books["bob"], row.first.id), row.line(books["bob"], row.second.id)
    assert (into.earned_in, into.earned_out, out.earned_in, out.earned_out) == (25, 0, 0, 25)
    assert (into.received - into.paid) + (out.received - out.paid) == 125 - 4_000, "fees, a payment, and our lock"

    await row.carol.invoices.cancel(held.payment_hash.hex())
    assert await row.end(number) == "released"
    await row.until(row.bob, lambda: not row.bob._parts.host.groups[row.second.id].locks)
    books = await row.books()
    assert [books[name].total for name in NAMES] == [FUNDS - 3_625, FUNDS + 125, FUNDS + 3_500]
    assert [books[name].in_locks for name in NAMES] == [0, 0, 0]
    await row.first.close()
    await row.second.close()
    for wallet in row.wallets.values():
        await wallet.channels()
    books = await row.books()
    assert [books[name].total for name in NAMES] == [FUNDS - 3_625, FUNDS + 125, FUNDS + 3_500]
    kinds = sorted(entry.kind for entry in row.carol.history() if entry.payment_hash)
    assert kinds == ["invoice_held", "invoice_paid", "spontaneous"]


async def test_an_invoice_names_who_reaches_us_and_at_what_price(row: Row) -> None:
    issued = await row.carol.invoices.create(Wanted(250))
    assert issued.invoice.hints == (Hint(row.bob.address, row.second.id, 7, 1_000),)
    assert len(issued.invoice.hints) <= MOST_HINTS
    assert (await row.carol.invoices.create(Wanted(250, hints=False))).invoice.hints == ()
    text = format_invoice(issued.invoice)
    assert parse_invoice(text) == issued.invoice
    assert len(draw(text)) < 60, "a screen shows its code"
    # who can send us nothing is not named
    assert (await row.alice.invoices.create(Wanted(250))).invoice.hints[0].node == row.bob.address


async def test_fees_that_were_paid_are_counted_where_the_money_left(row: Row) -> None:
    """Payments as people make them, and a circle: what it cost stands with the channel that it helped."""
    carol = row.carol
    contact = carol.contact
    assert contact is not None
    third = await row.alice.open_channel(contact, deposit=5_000, peer_deposit=15_000, bond=1_000)
    issued = await carol.invoices.create(Wanted(6_000, "a table"))
    paying = await row.alice.payments.pay_invoice(issued.invoice, max_fee=100)
    fee = paying.payment.fee
    assert fee > 0, "more than the channel with Carol has"
    circle = await row.alice.payments.rebalance(row.first.id, third.id, 2_000, max_fee=100)
    cost = circle.payment.fee
    assert cost > 0
    await row.until(carol, lambda: carol.invoices.get(issued.payment_hash).received == 6_000)  # type: ignore[union-attr]
    quiet = lambda: not any(group.locks for each in row.wallets.values() for group in each._parts.host.groups.values())  # noqa: E731
    await row.until(row.alice, quiet)
    books = await row.books()
    alice = books["alice"]
    assert (alice.fees_paid, alice.rebalancing, alice.fees_earned) == (fee, cost, 0)
    assert row.line(alice, row.first.id).rebalancing == cost
    assert sum(line.fees_paid for line in alice.channels) == fee
    assert books["bob"].fees_earned + books["carol"].fees_earned == fee + cost
    assert alice.total == FUNDS - 6_000 - fee - cost
    assert books["bob"].total == FUNDS + books["bob"].fees_earned
    notes = {entry.kind: entry for entry in row.alice.history() if entry.kind in ("rebalanced", "spontaneous")}
    assert set(notes) == {"rebalanced"}, "what comes back to us is no income"
