"""Conditional payments between two whole wallets: offered, claimed, given back, expired, or decided by layer 1."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from msgspec import structs

from layer1.client import LedgerUnreachable, new_registration
from layer1.crypto import Hash
from layer1.errors import LocalError, Refused
from layer1.ledger.agreements import Lock
from layer1.ledger.locks import preimage_hash
from layer1.ledger.records import Registration
from layer2.payments import Release
from tests.wallet import standin
from tests.wallet.conftest import World
from tests.wallet.test_wallet import opened
from wallet import locking
from wallet.channel import Channel
from wallet.lock_news import Ended
from wallet.locking import WORTH_UNITS, Duty, duty, wants_renewal
from wallet.period import explain_margin, margin_ms, margin_terms
from wallet.wallet import Wallet

SECRET = b"s" * 32
HASH = preimage_hash(SECRET)
M = 1_000
LOCK = Lock(1, 0, 1, 300, HASH, 100_000)


@pytest.mark.parametrize(
    ("me", "clock_ms", "preimage", "registered_ms", "asked"),
    [
        (0, 100_000, False, None, Duty.WAIT),
        (0, 100_001, False, None, Duty.EXPIRE),
        (0, 102_000, False, None, Duty.EXPIRE),
        (0, 102_001, False, None, Duty.WEDGE),
        (0, 102_001, False, 100_001, Duty.WEDGE),
        (0, 102_001, False, 100_000, Duty.WAIT),
        (1, 50_000, False, None, Duty.WAIT),
        (1, 50_000, True, None, Duty.CLAIM),
        (1, 96_999, True, None, Duty.CLAIM),
        (1, 97_000, True, None, Duty.REGISTER),
        (1, 100_000, True, None, Duty.REGISTER),
        (1, 100_001, True, None, Duty.WAIT),
        (1, 100_001, True, 100_000, Duty.CLAIM),
        (1, 102_001, True, 100_000, Duty.WEDGE),
        (1, 102_001, True, 100_001, Duty.WAIT),
    ],
)
def test_what_a_lock_asks_for(me: int, clock_ms: int, preimage: bool, registered_ms: int | None, asked: Duty) -> None:
    """Rule 23: register in time, claim by it, take back what is over, and wedge when the peer does nothing."""
    assert duty(LOCK, me, clock_ms, M, preimage=preimage, registered_ms=registered_ms) is asked


@pytest.mark.parametrize(
    ("clock_ms", "registered", "asked"),
    [
        (100_000, None, False),
        (97_000, (10_000, 47_000), True),
        (96_999, (10_000, 40_000), False),
        (97_000, (10_000, 47_001), False),
        (102_001, (10_000, 47_000), True),
        (152_000, (10_000, 102_000), True),
        (97_000, (100_001, 40_000), False),
    ],
)
def test_when_a_registration_is_renewed(clock_ms: int, registered: tuple[int, int] | None, asked: bool) -> None:
    """Rule 21: in the last 3 M before the expiry, and for as long as the lock stands, unless it was lately."""
    found = None if registered is None else Registration(HASH, SECRET, *registered)
    assert wants_renewal(LOCK, found, clock_ms, M, 50_000) is asked


def test_the_margin_is_the_sum_of_what_it_explains(world: World) -> None:
    """Rule 22: "M covers poll, heartbeat staleness, 2 delta, (f+1) leader terms, commit, a burst, and drift"."""
    genesis = world.genesis
    assert margin_ms(genesis) == sum(term.ms for term in margin_terms(genesis))
    assert len(explain_margin(genesis).splitlines()) == len(margin_terms(genesis)) + 1 == 8


class Peer:
    """What the other side's wallet hears, and does with it."""

    def __init__(self, wallet: Wallet) -> None:
        self.wallet = wallet
        self.offers: list[tuple[Hash, Lock, bytes]] = []
        self.ends: list[Ended] = []
        self.heard = asyncio.Event()
        wallet.locking.on_offer = self._offer
        wallet.locking.on_end = lambda _, ended: self.ends.append(ended)

    def _offer(self, group_id: Hash, lock: Lock, packet: bytes) -> None:
        self.offers.append((group_id, lock, packet))
        self.heard.set()

    async def lock(self) -> tuple[Channel, Lock]:
        async with asyncio.timeout(10):
            await self.heard.wait()
        group_id, lock, _ = self.offers[-1]
        return self.wallet.channel(group_id.hex()), lock


async def ready(world: World) -> tuple[Wallet, Wallet, Channel, int]:
    """Both at a clock that is known, with an expiry well ahead."""
    alice, bob, channel = await opened(world)
    world.chain.block(after_ms=60_000)
    await channel.refresh()
    for wallet in (alice, bob):
        await wallet.channels()
    return alice, bob, channel, world.chain.state.clock + 6 * alice.locking.margin_ms


def pass_time(world: World, until_ms: int) -> None:
    while world.chain.state.clock <= until_ms:
        world.chain.block(after_ms=60_000)


async def until(world: World, wallets: tuple[Wallet, ...], check: Callable[[], bool]) -> None:
    """Let everybody look at layer 1 until it is so."""
    async with asyncio.timeout(15):
        while not check():
            world.chain.block(after_ms=20)
            for wallet in wallets:
                await wallet.channels()
            await asyncio.sleep(0)


async def test_a_conditional_payment_is_claimed_with_its_preimage(world: World) -> None:
    alice, bob, channel, expiry = await ready(world)
    peer = Peer(bob)
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry, b"for bob"))
    theirs, lock = await peer.lock()
    assert peer.offers == [(channel.id, lock, b"for bob")] and lock.amount == 1_000
    assert list(bob.locking.incoming()) == [(channel.id, lock, b"for bob")]
    before = channel.view().can_send
    await theirs.claim(lock.id, SECRET)
    ended = await asyncio.wait_for(paying, 10)
    assert ended.is_paid and ended.preimage == SECRET and alice.locking.ended(channel.id, lock.id) == ended
    assert channel.view().can_send == before and not list(alice.locking.outgoing())
    kinds = [(entry.kind, entry.amount) for entry in alice.history(9) if entry.kind.endswith(("lock", "locked"))]
    assert kinds == [("paid_lock", 0), ("locked", -1_000)]
    theirs_kinds = [(entry.kind, entry.amount) for entry in bob.history(9)][:2]
    assert theirs_kinds == [("received_lock", 1_000), ("offered", 0)]


async def test_what_is_given_back_says_why(world: World) -> None:
    _, bob, channel, expiry = await ready(world)
    peer, before = Peer(bob), channel.view().can_send
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    with pytest.raises(Refused, match="hashes to"):
        await theirs.claim(lock.id, b"x" * 32)
    await theirs.release(lock.id, b"no such invoice")
    ended = await asyncio.wait_for(paying, 10)
    assert not ended.is_paid and (ended.how, ended.reason) == ("released", b"no such invoice")
    assert channel.view().can_send == before


async def test_an_offer_that_leaves_no_time_is_refused(world: World) -> None:
    alice, _, channel, _ = await ready(world)
    clock, most = alice.locking._clock(), world.genesis.parameters.max_lock_ms
    for wrong in (clock + 3 * alice.locking.margin_ms, clock + most + 60_000, 0):
        with pytest.raises(Refused, match="the lock would expire in"):
            await channel.offer(10, HASH, wrong)


async def test_a_wallet_that_was_just_opened_asks_for_the_clock(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its watcher may not have had an answer yet: what is left of a lock was reckoned from clock 0, and refused."""
    alice, bob, channel, expiry = await ready(world)
    parts, peer = alice.locking._parts, Peer(bob)
    parts.host._clock = None
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    await theirs.release(lock.id, b"")
    assert (await asyncio.wait_for(paying, 10)).how == "released"

    async def silent() -> int:
        raise LedgerUnreachable("nobody answers")

    parts.host._clock = None
    monkeypatch.setattr(parts.ledger, "clock", silent)
    with pytest.raises(Refused, match="out of reach"):
        await channel.offer(1_000, HASH, expiry)


async def test_a_lock_expires_by_itself(world: World) -> None:
    """Nobody asks for it: the payer takes it back, and the payee looks before it agrees."""
    alice, bob, channel, expiry = await ready(world)
    peer, before = Peer(bob), channel.view().can_send
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    await peer.lock()
    pass_time(world, expiry)
    await until(world, (alice, bob), paying.done)
    assert paying.result().how == "expired" and channel.view().can_send == before


async def test_a_preimage_is_registered_when_the_payer_is_away(world: World) -> None:
    """The payer's wallet is gone: the payee registers in time, wedges when it must, and layer 1 pays it."""
    alice, bob, channel, expiry = await ready(world)
    peer = Peer(bob)
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    paying.cancel()
    await alice.__aexit__()
    await theirs.claim(lock.id, SECRET)
    pass_time(world, expiry - 3 * bob.locking.margin_ms)
    await until(world, (bob,), lambda: world.chain.state.registration(HASH) is not None)
    registered = world.chain.state.registration(HASH)
    assert registered is not None and registered.clock_ms <= expiry
    pass_time(world, expiry + 2 * bob.locking.margin_ms)
    await until(world, (bob,), lambda: theirs.view().deadline_ms is not None)
    pass_time(world, theirs.view().deadline_ms or 0)
    await until(world, (bob,), lambda: not theirs.record.live)
    shown = world.chain.state.group(channel.id)
    assert shown is not None and [each.paid_to for each in shown.locks] == [lock.payee]
    assert peer.ends[-1].how == "paid" and peer.ends[-1].preimage == SECRET


def stand_still(wallet: Wallet, ms: int) -> None:
    """What the wallet reckons after an outage of the ledger, whose clock makes up for none of it."""
    host = wallet.locking._parts.host
    assert host._clock is not None
    host._clock = (host._clock[0] + ms, host._clock[1])


async def test_no_lock_is_lost_by_a_ledger_that_stood_still(world: World) -> None:
    """Its clock goes on from where it was: what could be registered before can be after, and nothing is over."""
    alice, bob, channel, expiry = await ready(world)
    peer = Peer(bob)
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    for wallet in (alice, bob):
        stand_still(wallet, 20 * alice.locking.margin_ms)
    for _ in range(3):
        world.chain.block(after_ms=20)
        for wallet in (alice, bob):
            await wallet.channels()
    assert {channel.view().state, theirs.view().state} == {"open"}, "the payer wedges before the time is over"
    await theirs.claim(lock.id, SECRET)
    pass_time(world, expiry - 3 * bob.locking.margin_ms)
    await until(world, (alice, bob), paying.done)
    registered = world.chain.state.registration(HASH)
    assert registered is not None and registered.clock_ms <= expiry
    assert paying.result().how == "claimed" and channel.view().state == "open"


async def test_a_small_lock_is_no_reason_to_wedge(world: World) -> None:
    alice, bob, channel, expiry = await ready(world)
    peer = Peer(bob)
    paying = asyncio.create_task(channel.offer(WORTH_UNITS - 1, HASH, expiry))
    theirs, lock = await peer.lock()
    paying.cancel()
    await alice.__aexit__()
    await theirs.claim(lock.id, SECRET)
    pass_time(world, expiry - 3 * bob.locking.margin_ms)
    await until(world, (bob,), lambda: world.chain.state.registration(HASH) is not None)
    pass_time(world, expiry + 2 * bob.locking.margin_ms)
    for _ in range(5):
        await bob.channels()
    assert theirs.view().state != "disputed" and "too few to wedge for" in (theirs.view().advice or "")


async def test_a_preimage_is_durable_before_it_is_claimed(world: World) -> None:
    """The payee's wallet dies with the claim on its way: the next start takes it up again."""
    _, bob, channel, expiry = await ready(world)
    peer = Peer(bob)
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry, b"packet"))
    theirs, lock = await peer.lock()
    bob.locking._try = lambda *_: None  # type: ignore[method-assign]  # it dies before anything leaves
    await theirs.claim(lock.id, SECRET)
    await bob.__aexit__()
    again, _ = await world.serve("bob")
    assert [(each, packet) for _, each, packet in again.locking.incoming()] == [(lock, b"packet")]
    await until(world, (again,), paying.done)
    assert paying.result().preimage == SECRET


async def test_a_payer_learns_what_was_registered(world: World) -> None:
    """A forwarder is paid by the preimage that its payee showed layer 1 alone (rule 21)."""
    alice, bob, channel, expiry = await ready(world)
    peer, told = Peer(bob), list[bytes]()
    alice.locking.on_preimage = lambda group_id, lock, preimage: told.append(preimage)
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    bob.locking._try = lambda *_: None  # type: ignore[method-assign]  # it never claims off-chain
    await theirs.claim(lock.id, SECRET)
    pass_time(world, expiry - 3 * bob.locking.margin_ms)
    await until(world, (alice, bob), lambda: bool(told))
    assert told == [SECRET] and not paying.done()
    pass_time(world, expiry + 2 * bob.locking.margin_ms)
    await until(world, (bob,), lambda: theirs.view().deadline_ms is not None)
    await until(world, (alice, bob), paying.done)
    assert paying.result() == Ended(lock, "paid", SECRET)


async def test_nobody_learns_a_preimage_by_offering_less_for_it(world: World) -> None:
    """A second lock under the same hash, of one unit, is not claimed because the first one is."""
    _, bob, channel, expiry = await ready(world)
    peer = Peer(bob)
    first = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    second = asyncio.create_task(channel.offer(1, HASH, expiry))
    await until(world, (bob,), lambda: len(peer.offers) == 2)
    await theirs.claim(lock.id, SECRET)
    await until(world, (bob,), first.done)
    assert first.result().is_paid and not second.done()
    await theirs.release(peer.offers[1][1].id)
    assert (await asyncio.wait_for(second, 10)).how == "released"


@pytest.fixture
def short_registry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The ledger forgets within minutes, as soon as it may with challenge periods of 10 seconds."""
    parameters = structs.replace(standin.PARAMETERS, max_lock_ms=400_000, preimage_kept_ms=430_000)
    monkeypatch.setattr(standin, "PARAMETERS", parameters)


async def route_of_an_attacker(world: World) -> tuple[Channel, Lock]:
    """Decision 036: it holds both ends, and registered the preimage about `preimage_kept_ms` before the expiry.

    Downstream claims at once. Upstream, the peer in this channel, is silent from the offer on: it waits until the
    registration is forgotten, which is timely at the expiry. Of this channel, closed at last, with the lock.
    """
    alice, bob, channel, _ = await ready(world)
    key, peer, margin = alice.locking._parts.keys.spending, Peer(bob), bob.locking.margin_ms
    registers = new_registration(world.genesis, key, [SECRET], world.chain.state.clock)
    await alice.locking._parts.ledger.submit(registers)
    forgotten = world.chain.state.clock + world.genesis.parameters.preimage_kept_ms
    expiry = forgotten - 2 * margin - 5_000  # while layer 1 waits for the peer, whose silence is no claim
    pass_time(world, expiry - 7 * margin)
    for wallet in (alice, bob):
        await wallet.channels()
    paying = asyncio.create_task(channel.offer(1_000, HASH, expiry))
    theirs, lock = await peer.lock()
    paying.cancel()
    await alice.__aexit__()
    await theirs.claim(lock.id, SECRET)
    while world.chain.state.clock <= expiry + 2 * margin:  # it looks as often as it should
        world.chain.block(after_ms=2_000)
        await bob.channels()
        await asyncio.sleep(0)
    await until(world, (bob,), lambda: theirs.view().deadline_ms is not None)
    deadline = theirs.view().deadline_ms or 0
    assert world.chain.state.clock < forgotten < deadline - 200
    while world.chain.state.clock < deadline:
        world.chain.block(after_ms=100)
    await until(world, (bob,), lambda: not theirs.record.live)
    return theirs, lock


async def test_an_old_registration_robs_no_forwarder(short_registry: None, world: World) -> None:
    """Who passes a preimage on is paid by it, however long ago it was registered first."""
    channel, lock = await route_of_an_attacker(world)
    shown = world.chain.state.group(channel.id)
    assert shown is not None and [each.paid_to for each in shown.locks] == [lock.payee]
    registered = world.chain.state.registration(HASH)
    assert registered is not None and registered.clock_ms < registered.kept_from_ms <= lock.expiry_ms


async def test_who_renews_nothing_is_robbed(
    short_registry: None, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same without :func:`wallet.locking.wants_renewal`: the attack is real, and the test above can fail."""
    monkeypatch.setattr(locking, "wants_renewal", lambda *_: False)
    channel, lock = await route_of_an_attacker(world)
    shown = world.chain.state.group(channel.id)
    assert shown is not None and [each.paid_to for each in shown.locks] == [lock.payer]
    assert world.chain.state.registration(HASH) is None


async def test_a_file_that_is_no_preimage_is_said(world: World) -> None:
    _, bob, _, _ = await ready(world)
    home = world.homes["bob"].home
    await bob.__aexit__()
    (home / "locks" / "00").write_bytes(b"x")
    with pytest.raises(LocalError, match="restore it, or remove it"):
        await world.load("bob")


async def test_a_lock_between_what_is_committed_and_what_was_signed_last_is_live(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A witness has not acknowledged the version that made it, nor the one that ended it: layer 1 may settle on it."""
    locks = (await world.load("alice")).locking
    lock = Lock(1, 0, 1, 500, HASH, 1)
    nothing, state = (SimpleNamespace(body=SimpleNamespace(locks=those)) for those in ((), (lock,)))
    group = SimpleNamespace(committed=nothing, tail=(SimpleNamespace(state=state),), locks=())
    monkeypatch.setattr(locks, "_group", lambda _: group)
    assert locks._locks(bytes(32)) == (lock,)


async def test_a_lock_whose_end_a_watchtower_has_not_receipted_is_live(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a restart too: a forwarder that gave back what came in for it would lose it to an older version [F6]."""
    wallet, lock, group = await world.load("alice"), Lock(1, 0, 1, 500, HASH, 1), bytes(32)
    locks, observer = wallet.locking, wallet._parts.observer
    monkeypatch.setitem(
        cast(Any, wallet._parts.host._groups), group, SimpleNamespace(place=SimpleNamespace(index=0), closed=True)
    )
    monkeypatch.setattr(locks, "_locks", lambda _: ())
    assert list(locks.outgoing()) == []
    monkeypatch.setattr(observer, "unreceipted", lambda _: ("a version",))
    monkeypatch.setattr(locking, "news_of", lambda _: [(1, lock, Release(1))])
    assert list(locks.outgoing()) == [(group, lock)] and locks.outgoing_in(group) == [lock]
    monkeypatch.undo()
