"""Two wallets, and payments to one of them in parts, or without an invoice: over real channels, with restarts."""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Callable, Sequence

import pytest
from msgspec import structs

from layer1.errors import LocalError, Refused
from layer1.ledger.locks import preimage_hash
from layer1.ledger.records import ClosedLock
from tests.wallet.conftest import World
from wallet.channel import Channel
from wallet.invoices.book import Record
from wallet.invoices.gathering import PATIENCE_MS
from wallet.invoices.payee import Wanted
from wallet.invoices.receiving import Circle
from wallet.invoices.records import Gift, Issued, Stage
from wallet.lock_news import Ended
from wallet.onion.failure import Code, unwrap
from wallet.onion.packet import Binding, Origin, build, build_spontaneous
from wallet.onion.replay import SeenPackets
from wallet.onion.route import Hop, Route
from wallet.requests import EntryView
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow


async def opened(world: World) -> tuple[Wallet, Wallet, Channel]:
    bob, contact = await world.serve("bob")
    alice = await world.load("alice")
    channel = await alice.open_channel(
        contact, deposit=10_000, peer_deposit=5_000, bond=1_000, challenge_period_ms=5_000
    )
    return alice, bob, channel


async def until(wallet: Wallet, found: Callable[[], object]) -> None:
    assert await wallet._parts.signals.until(lambda: found() or None, 5)


class Parts:
    """Locks of Alice's, each with a packet for Bob."""

    def __init__(self, alice: Wallet, bob: Wallet, channel: Channel) -> None:
        self.alice, self.bob, self.channel = alice, bob, channel
        self.origins: dict[int, Origin] = {}

    async def of(self, issued: Issued, amount: int, total: int, *, good_ms: int = 86_400_000) -> int:
        """The id of the lock, which is committed on return."""
        invoice = issued.invoice
        expiry_ms = await self.alice._parts.ledger.clock() + good_ms
        route = Route(self.channel.id, (Hop(self.bob.address, amount),), expiry_ms)
        binding = Binding(invoice.chain_id, invoice.payment_hash, expiry_ms)
        packet, origin = build(route, binding, os.urandom(32), total=total, payment_secret=invoice.payment_secret)
        return await self._offer(amount, invoice.payment_hash, expiry_ms, packet, origin)

    async def unasked(self, preimage: bytes, amount: int, total: int) -> int:
        expiry_ms = await self.alice._parts.ledger.clock() + 86_400_000
        hashed = preimage_hash(preimage)
        route = Route(self.channel.id, (Hop(self.bob.address, amount),), expiry_ms)
        binding = Binding(self.alice.genesis.chain_id, hashed, expiry_ms)
        packet, origin = build_spontaneous(route, binding, os.urandom(32), total=total, preimage=preimage)
        return await self._offer(amount, hashed, expiry_ms, packet, origin)

    async def _offer(self, amount: int, hashed: bytes, expiry_ms: int, packet: bytes, origin: Origin) -> int:
        lock = await self.alice.locking.begin(self.channel.id, amount, hashed, expiry_ms, packet)
        self.origins[lock.id] = origin
        return lock.id

    async def end(self, number: int) -> Ended:
        async with asyncio.timeout(10):
            return await self.alice.locking.end_of(self.channel.id, number)

    async def why(self, number: int) -> Code:
        """Why it was given back."""
        ended = await self.end(number)
        assert ended.how == "released"
        return unwrap(self.origins[number], ended.reason).failure.code


async def asked(bob: Wallet, amount: int = 250, *, hold: bool = False) -> Issued:
    return await bob.invoices.create(Wanted(amount, "coffee", hold=hold))


def record(bob: Wallet, issued: Issued) -> Issued:
    found = bob.invoices.get(issued.invoice.payment_hash)
    assert found is not None
    return found


def notes(wallet: Wallet, issued: Issued | Gift) -> list[EntryView]:
    return [each for each in wallet.history() if each.payment_hash == issued.payment_hash.hex()]


def waits(bob: Wallet, issued: Issued, units: int) -> Callable[[], bool]:
    return lambda: bob.invoices.payee.waiting_units(issued.invoice.payment_hash) == units


async def test_parts_are_claimed_together_when_the_last_has_come(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    numbers = [await parts.of(issued, amount, 250) for amount in (100, 100)]
    await until(bob, waits(bob, issued, 200))
    assert record(bob, issued) == issued, "nothing is written of what may go back"
    numbers.append(await parts.of(issued, 50, 250))
    assert [(await parts.end(number)).how for number in numbers] == ["claimed"] * 3
    await until(bob, lambda: record(bob, issued).stage is Stage.PAID)
    assert record(bob, issued).received == 250
    assert [(each.kind, each.amount, each.memo) for each in notes(bob, issued)] == [("invoice_paid", 250, "coffee")]


async def test_what_is_incomplete_goes_back_whole_after_a_margin_and_a_minute(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    numbers = [await parts.of(issued, amount, 250) for amount in (100, 149)]
    await until(bob, waits(bob, issued, 249))
    for _ in range(2):  # a block brings the clock a minute ahead at most
        world.chain.block(after_ms=bob.locking.margin_ms + PATIENCE_MS)
    bob._follower.nudge()
    assert [await parts.why(number) for number in numbers] == [Code.PARTS_MISSING] * 2
    assert (record(bob, issued), waits(bob, issued, 0)()) == (issued, True)
    assert (await parts.end(await parts.of(issued, 250, 250))).how == "claimed", "it can still be paid"


async def test_parts_wait_over_a_restart_of_the_payee(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    first = await parts.of(issued, 100, 250)
    await until(bob, waits(bob, issued, 100))
    await bob.__aexit__(None, None, None)
    parts.bob = bob = (await world.serve("bob"))[0]
    await channel.reach()
    await until(bob, waits(bob, issued, 100))
    last = await parts.of(issued, 150, 250)
    assert [(await parts.end(number)).how for number in (first, last)] == ["claimed"] * 2
    await until(bob, lambda: record(bob, issued).received == 250)


async def test_who_is_killed_before_it_claims_claims_all_at_the_next_start(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    monkeypatch.setattr(bob.locking, "insist", lambda *_: None)
    numbers = [await parts.of(issued, amount, 250) for amount in (100, 150)]
    await until(bob, lambda: record(bob, issued).stage is Stage.CLAIMING)
    await bob.__aexit__(None, None, None)
    bob, _ = await world.serve("bob")
    assert [(await parts.end(number)).how for number in numbers] == ["claimed"] * 2
    await until(bob, lambda: record(bob, issued).stage is Stage.PAID)


async def test_nothing_is_claimed_that_the_disk_did_not_take(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The preimage is kept for a claim by the record alone: without it a restart would not know of the other parts."""
    alice, bob, channel = await opened(world)
    parts, issued, asked_for = Parts(alice, bob, channel), await asked(bob), []

    def is_full(*_: object, **__: object) -> None:
        asked_for.append(1)
        raise LocalError("the disk is full")

    with monkeypatch.context() as broken:
        broken.setattr(bob.invoices.payee._book, "put_all", is_full)
        number = await parts.of(issued, 250, 250)
        await until(bob, lambda: asked_for)
        assert not bob.locking.is_claimed(channel.id, number)
        await bob.__aexit__(None, None, None)
    await world.serve("bob")
    assert (await parts.end(number)).how == "claimed"


async def test_a_payment_costs_one_sync_of_the_book_and_those_of_one_turn_share_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob, channel = await opened(world)
    parts, writes = Parts(alice, bob, channel), []
    invoices = [await asked(bob) for _ in range(4)]
    original = bob.invoices.payee._book.put_all

    def put_all(records: Sequence[Record], *, synced: bool = True) -> None:
        writes.append((synced, [record.stage for record in records if isinstance(record, Issued)]))
        original(records, synced=synced)

    def no_file(*_: object) -> None:
        raise AssertionError("a file for a lock, besides the record")

    monkeypatch.setattr("wallet.locking.write_durably", no_file)
    monkeypatch.setattr(bob.invoices.payee._book, "put_all", put_all)
    clock: list[int | None] = [None]
    now, collector = bob.invoices.payee._clock_ms, bob.invoices.payee
    collector._clock_ms = lambda: clock[0] and now()
    numbers = [await parts.of(issued, 250, 250) for issued in invoices]
    clock[0] = 1
    bob._parts.signals.notify()  # all four are decided in one turn
    for number in numbers:
        assert (await parts.end(number)).how == "claimed"
    await until(bob, lambda: all(record(bob, issued).stage is Stage.PAID for issued in invoices))
    assert [stages for synced, stages in writes if synced] == [[Stage.CLAIMING] * 4]
    assert sorted(stages for synced, stages in writes if not synced) == [[Stage.PAID]] * 4


async def test_a_hold_invoice_holds_all_parts_and_gives_all_back(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, kept, back = Parts(alice, bob, channel), await asked(bob, hold=True), await asked(bob, hold=True)
    numbers = {each: [await parts.of(each, amount, 250) for amount in (100, 150)] for each in (kept, back)}
    for each in (kept, back):
        await until(bob, lambda each=each: record(bob, each).stage is Stage.HELD)  # type: ignore[misc]
    assert [note.kind for note in notes(bob, kept)] == ["invoice_held"]
    await bob.invoices.settle(kept.payment_hash.hex())
    await bob.invoices.cancel(back.payment_hash.hex())
    assert [(await parts.end(number)).how for number in numbers[kept]] == ["claimed"] * 2
    assert [await parts.why(number) for number in numbers[back]] == [Code.UNKNOWN_PAYMENT] * 2
    assert [note.kind for note in notes(bob, kept)] == ["invoice_paid", "invoice_held"]


async def test_a_part_that_the_ledger_did_not_settle_on_completes_nothing(world: World) -> None:
    """Else the preimage would leave for the other part alone."""
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    number = await parts.of(issued, 200, 250)
    await until(bob, waits(bob, issued, 200))
    closed = world.chain.state.group(channel.id)
    assert closed is not None and not closed.locks
    bob.invoices.payee.settled(channel.id, closed)
    assert waits(bob, issued, 0)()
    await parts.of(issued, 50, 250)
    await until(bob, waits(bob, issued, 50))
    assert record(bob, issued).stage is Stage.OPEN
    assert not bob.locking.is_claimed(channel.id, number)


async def test_what_is_held_in_a_channel_that_the_ledger_closed_without_it_is_held_no_more(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob, hold=True)
    await parts.of(issued, 100, 250)
    other = await parts.of(issued, 150, 250)
    await until(bob, lambda: record(bob, issued).stage is Stage.HELD)
    closed = world.chain.state.group(channel.id)
    assert closed is not None
    lock = bob._parts.host.groups[channel.id].committed.body.locks[1]
    bob.invoices.payee.settled(channel.id, structs.replace(closed, locks=(ClosedLock(lock, 0, None),)))
    assert record(bob, issued).stage is Stage.OPEN
    assert await parts.why(other) is Code.PARTS_MISSING


async def test_cancelling_gives_back_what_waits(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    number = await parts.of(issued, 100, 250)
    await until(bob, waits(bob, issued, 100))
    await bob.invoices.cancel(issued.payment_hash.hex())
    assert await parts.why(number) is Code.UNKNOWN_PAYMENT


async def test_two_payers_at_once_pay_once(world: World) -> None:
    """The second pays it whole while the first one's other part is still to come."""
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    first = await parts.of(issued, 200, 250)
    await until(bob, waits(bob, issued, 200))
    whole = await parts.of(issued, 250, 250)
    assert (await parts.end(whole)).how == "claimed"
    assert await parts.why(first) is Code.UNKNOWN_PAYMENT
    assert await parts.why(await parts.of(issued, 50, 250)) is Code.UNKNOWN_PAYMENT
    assert record(bob, issued).received == 250


async def test_a_payment_without_an_invoice_is_taken_noted_and_not_taken_twice(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, preimage = Parts(alice, bob, channel), b"g" * 32
    numbers = [await parts.unasked(preimage, amount, 77) for amount in (30, 47)]
    assert [(await parts.end(number)).preimage for number in numbers] == [preimage] * 2
    gift = bob.invoices.payee._book.gift(preimage_hash(preimage))
    assert gift is not None
    await until(bob, lambda: [(each.kind, each.amount) for each in notes(bob, gift)] == [("spontaneous", 77)])
    assert await parts.why(await parts.unasked(preimage, 77, 77)) is Code.UNKNOWN_SPONTANEOUS


async def test_a_wallet_may_refuse_what_nobody_asked_for(world: World) -> None:
    alice, bob, channel = await opened(world)
    bob.invoices.payee.takes_spontaneous = False
    parts = Parts(alice, bob, channel)
    assert await parts.why(await parts.unasked(b"g" * 32, 77, 77)) is Code.UNKNOWN_SPONTANEOUS
    issued = await asked(bob)
    assert await parts.why(await parts.unasked(issued.preimage, 250, 250)) is Code.UNKNOWN_SPONTANEOUS


async def test_what_comes_back_to_ourselves_is_no_income(world: World) -> None:
    """The circle is made by hand: Alice pays in Bob's name."""
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    secret, preimage = issued.invoice.payment_secret, issued.preimage
    bob.invoices.payee._book._engine.dispose()
    monkey = bob.invoices.payee
    monkey.circle = lambda payment_hash: Circle(secret, 250, preimage, channel.id)
    monkey._book.issued = lambda payment_hash: None  # type: ignore[method-assign]
    assert await parts.why(await parts.of(issued, 1, 1)) is Code.UNKNOWN_PAYMENT
    assert (await parts.end(await parts.of(issued, 250, 250))).preimage == preimage
    gift = monkey._book.gift(issued.payment_hash)
    assert gift is not None
    assert (gift.ours, notes(bob, gift)) == (True, [])


async def test_what_is_being_claimed_is_not_given_back_whatever_is_forgotten_of_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told again after a start, a circle that its payer has put down as paid is still claimed."""
    alice, bob, channel = await opened(world)
    parts, issued, payee = Parts(alice, bob, channel), await asked(bob), bob.invoices.payee
    circle = Circle(issued.invoice.payment_secret, 250, issued.preimage, channel.id)
    payee.circle = lambda payment_hash: circle
    monkeypatch.setattr(payee._book, "issued", lambda payment_hash: None)
    with monkeypatch.context() as held:
        held.setattr(bob.locking, "insist", lambda *_: None)
        number = await parts.of(issued, 250, 250)
        await until(bob, lambda: payee._book.gift(issued.payment_hash))
        payee.circle = lambda payment_hash: None
        (told,) = bob.locking.incoming()
        bob.switchboard._seen = SeenPackets()
        bob.switchboard._offered(*told)
        await until(bob, lambda: not payee._fresh)
    bob.switchboard._seen = SeenPackets()
    bob.switchboard._offered(*told)
    assert (await parts.end(number)).how == "claimed"


async def test_what_is_being_given_back_is_not_settled(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued, payee = Parts(alice, bob, channel), await asked(bob, hold=True), bob.invoices.payee
    number = await parts.of(issued, 250, 250)
    await until(bob, lambda: record(bob, issued).stage is Stage.HELD)
    payee._leaving.add((channel.id, number))
    with pytest.raises(Refused, match="is being given back"):
        await bob.invoices.settle(issued.payment_hash.hex())
    assert record(bob, issued).stage is Stage.HELD


async def test_the_history_has_each_note_again_that_a_crash_took_from_it(world: World) -> None:
    alice, bob, channel = await opened(world)
    parts, issued = Parts(alice, bob, channel), await asked(bob)
    assert (await parts.end(await parts.of(issued, 250, 250))).how == "claimed"
    await until(bob, lambda: notes(bob, issued))
    await bob.__aexit__(None, None, None)

    with sqlite3.connect(world.homes["bob"].home / "wallet.db") as file:
        assert file.execute("DELETE FROM entries WHERE kind = 'invoice_paid'").rowcount == 1
    bob, _ = await world.serve("bob")
    assert [(each.kind, each.amount) for each in notes(bob, issued)] == [("invoice_paid", 250)]
