"""Where locks arrive: each packet is opened once, and its lock is given to whom it is for."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import pytest

from layer1.crypto import Hash
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import preimage_hash
from layer2.payments import offer
from tests.wallet.conftest import World
from tests.wallet.test_locking import ready, until
from wallet.invoices.dealing import LOGGED
from wallet.invoices.payee import Wanted
from wallet.invoices.records import Stage
from wallet.lock_news import Ended
from wallet.onion.failure import Code, unwrap
from wallet.onion.packet import Binding, Origin, Peeled, build, build_spontaneous
from wallet.onion.payload import Final, Forward, Spontaneous
from wallet.onion.replay import SeenPackets
from wallet.onion.route import Hop, Route
from wallet.wallet import Wallet

pytestmark = pytest.mark.slow

SECRET = b"s" * 32
HASH = preimage_hash(SECRET)


class Forwards:
    """A forwarder that keeps what it is given, and answers nothing."""

    def __init__(self, held: tuple[int, ...] = ()) -> None:
        self.held = held
        self.taken: list[tuple[Lock, Peeled]] = []
        self.heard: list[str] = []

    def holds(self, group_id: Hash, number: int) -> bool:
        return number in self.held

    def take(self, group_id: Hash, lock: Lock, peeled: Peeled) -> None:
        self.taken.append((lock, peeled))

    def shown(self, *_: Any) -> bool:
        self.heard.append("shown")
        return False

    def lose(self, *_: Any) -> bool:
        self.heard.append("lost")
        return False

    def stopped(self, *_: Any) -> None:
        self.heard.append("stopped")


def packet(world: World, wallet: Wallet, expiry: int, *, beyond: bytes = b"", spontaneous: bool = False) -> Any:
    """For a lock of 1,000 units to a wallet; `beyond` it, perhaps, another node."""
    hops = (Hop(wallet.address, 1_000), *([Hop(beyond, 900)] if beyond else []))
    route, binding = Route(bytes(32), hops, expiry), Binding(world.genesis.chain_id, HASH, expiry)
    if spontaneous:
        return build_spontaneous(route, binding, os.urandom(32), total=route.received, preimage=SECRET)
    return build(route, binding, os.urandom(32), total=route.received, payment_secret=bytes(16))


def told(origin: Origin, ended: Ended) -> Code:
    assert ended.how == "released"
    return unwrap(origin, ended.reason).failure.code


async def test_who_gets_a_lock_is_what_its_packet_says(world: World) -> None:
    alice, bob, channel, expiry = await ready(world)
    switchboard, forwards, paid = bob.switchboard, Forwards(), list[Peeled]()
    switchboard._forwarder = forwards
    switchboard._payee.take = lambda group_id, lock, peeled: paid.append(peeled)  # type: ignore[method-assign]
    async with asyncio.timeout(10):
        for made in (
            packet(world, bob, expiry),
            packet(world, bob, expiry, spontaneous=True),
            packet(world, bob, expiry, beyond=alice.address),
        ):
            await alice.locking.begin(channel.id, 1_000, HASH, expiry, made[0])
        await until(world, (alice, bob), lambda: len(paid) + len(forwards.taken) == 3)
    assert [type(each.payload) for each in paid] == [Final, Spontaneous]
    assert [each.payload for _, each in forwards.taken] == [Forward(alice.address, 900)]


async def test_without_a_forwarder_nothing_is_forwarded(world: World) -> None:
    alice, bob, channel, expiry = await ready(world)
    bob.switchboard._forwarder = None
    data, origin = packet(world, bob, expiry, beyond=alice.address)
    ended = await asyncio.wait_for(channel.offer(1_000, HASH, expiry, data), 10)
    assert told(origin, ended) is Code.UNKNOWN_NEXT


async def test_what_cannot_be_opened_goes_back_without_a_reason(world: World) -> None:
    """Truncated, tampered with, or made for another lock."""
    _, bob, channel, expiry = await ready(world)
    data, _ = packet(world, bob, expiry)
    for wrong in (b"", data[:-1], data[:-1] + bytes([data[-1] ^ 1]), data[:40] + bytes([data[40] ^ 1]) + data[41:]):
        ended = await asyncio.wait_for(channel.offer(1_000, HASH, expiry, wrong), 10)
        assert (ended.how, ended.reason) == ("released", b"")
    ended = await asyncio.wait_for(channel.offer(1_000, HASH, expiry + 1, data), 10)
    assert (ended.how, ended.reason) == ("released", b"")


async def test_a_lock_that_no_packet_can_belong_to_goes_back(world: World) -> None:
    """It expires when no clock ever stood; whoever is faulty may offer it all the same."""
    alice, bob, channel, expiry = await ready(world)
    data, _ = packet(world, bob, expiry)
    alice.locking._do = lambda *_: None  # type: ignore[method-assign]  # an honest payer takes it back
    await alice._parts.host.submit(channel.id, offer(1, 1_000, HASH, 0, data))
    group = bob._parts.host.groups
    await until(world, (alice, bob), lambda: group[channel.id].version > 1 and not group[channel.id].locks)


async def test_a_packet_is_opened_once_also_after_a_restart(world: World) -> None:
    """Its lock stands, or stood in this run: the same packet with another lock goes back unread."""
    alice, bob, channel, expiry = await ready(world)
    forwards = bob.switchboard._forwarder = Forwards()
    data, _ = packet(world, bob, expiry, beyond=alice.address)
    lock = await alice.locking.begin(channel.id, 1_000, HASH, expiry, data)
    ended = await asyncio.wait_for(channel.offer(1_000, HASH, expiry, data), 10)
    assert (ended.how, ended.reason) == ("released", b"") and len(forwards.taken) == 1
    await bob.__aexit__()
    again, _ = await world.serve("bob")
    forwards = again.switchboard._forwarder = Forwards(held=(lock.id,))
    await channel.reach()
    await again.channels()
    ended = await asyncio.wait_for(channel.offer(1_000, HASH, expiry, data), 10)
    assert (ended.how, ended.reason) == ("released", b"") and not forwards.taken


async def test_a_channel_whose_room_for_packets_is_used_up_is_open_all_the_same(world: World) -> None:
    _, bob, channel, expiry = await ready(world)
    bob.switchboard._seen = SeenPackets(most_of_a_group=1)
    for _ in range(3):
        data, origin = packet(world, bob, expiry)
        ended = await asyncio.wait_for(channel.offer(1_000, HASH, expiry, data), 10)
        assert told(origin, ended) is Code.UNKNOWN_PAYMENT


async def test_what_is_held_stays_though_a_replay_of_it_is_opened_first_after_a_start(world: World) -> None:
    alice, bob, channel, soon = await ready(world)
    expiry = soon + 300_000  # long enough for an invoice
    invoice = (await bob.invoices.create(Wanted(1_000, "bread", hold=True))).invoice
    hops, binding = (Hop(bob.address, 1_000),), Binding(world.genesis.chain_id, invoice.payment_hash, expiry)
    secret = invoice.payment_secret
    data, _ = build(Route(channel.id, hops, expiry), binding, bytes(range(32)), total=1_000, payment_secret=secret)
    lock = await alice.locking.begin(channel.id, 1_000, invoice.payment_hash, expiry, data)
    async with asyncio.timeout(10):
        await until(world, (alice, bob), lambda: bob.invoices.payee.holds(channel.id, lock.id))
        bob.switchboard._offered(channel.id, lock, data)
        for _ in range(10):
            await asyncio.sleep(0)
        assert not bob.switchboard._tasks, "it is not being given back"
        await bob.invoices.settle(invoice.payment_hash.hex())
        await until(world, (alice, bob), lambda: not bob._parts.host.groups[channel.id].locks)
        await until(world, (alice, bob), lambda: _stage(bob, invoice.payment_hash) is Stage.PAID)


def _stage(wallet: Wallet, payment_hash: bytes) -> Stage | None:
    issued = wallet.invoices.get(payment_hash)
    return None if issued is None else issued.stage


async def test_who_offers_without_end_does_not_fill_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    switchboard = (await world.load("alice")).switchboard
    caplog.set_level("INFO")
    for number in range(500):
        switchboard._tell_released(bytes(32), number, "no invoice has this hash")
    lines = [each.message for each in caplog.records if "released" in each.message]
    assert len(lines) == LOGGED.faults + 2 and "not told for 60 s" in lines[-1]
    switchboard._tell_released(b"b" * 32, 1, "no invoice has this hash")
    assert "lock 1 is released" in caplog.records[-1].message, "other channels are told of"


async def test_everybody_hears_of_preimages_and_ends(world: World) -> None:
    alice, bob, channel, expiry = await ready(world)
    forwards = alice.switchboard._forwarder = Forwards()
    taken = bob.switchboard._forwarder = Forwards()
    data, _ = packet(world, bob, expiry, beyond=alice.address)
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry, data))
    async with asyncio.timeout(10):
        await until(world, (alice, bob), lambda: bool(taken.taken))
        await bob.channel(channel.id.hex()).claim(taken.taken[0][0].id, SECRET)
        await paying
    assert forwards.heard == ["shown", "lost"]
