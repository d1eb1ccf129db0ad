"""The driver in one process: group commit, links between replicas, refusals, stops."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from layer1.codec import encode
from layer1.config import Address, load_config, read_key
from layer1.crypto import SigningKey
from layer1.devnet import Place, Plan, Reservation, _settle, home_of, initialize
from layer1.errors import LocalError, Refused
from layer1.handshake import Refusal
from layer1.journal import Journal
from layer1.ledger.genesis import Allocation, Parameters
from layer1.ledger.transactions import Transaction, Transfer, sign_transaction
from layer1.link import Link
from layer1.replica import events, following
from layer1.replica.driver import Replica
from layer1.replica.following import BlockSubscription
from layer1.replica.mempool import Mempool
from layer1.replica.messages import WIRE_VERSION, Greeting
from layer1.replica.shares import PoolLimits
from tests.layer1.replica.network import ALICE, BOB

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _undo_what_a_process_of_its_own_would_keep() -> object:
    interval, threshold = sys.getswitchinterval(), gc.get_threshold()
    yield
    sys.setswitchinterval(interval)
    gc.set_threshold(*threshold)
    gc.unfreeze()


def free_address(held: Reservation) -> Address:
    return Address("127.0.0.1", held.take("127.0.0.1", 0))


def make(directory: Path, replicas: int, funds: int = 1_000) -> Reservation:
    """Homes with addresses, whose ports are held."""
    parameters = Parameters(view_timeout_ms=300, heartbeat_ms=2_000)
    initialize(
        directory,
        Plan(replicas=replicas, allocations=(Allocation(ALICE.public, funds),), parameters=parameters),
    )
    held = Reservation()
    configs = [load_config(home_of(directory, index)) for index in range(replicas)]
    places = [Place(read_key(config.key).public, *(free_address(held) for _ in range(2))) for config in configs]
    for config, own in zip(configs, places, strict=True):
        _settle(config, own, places)
    return held


@asynccontextmanager
async def running(directory: Path, replicas: int = 4) -> AsyncIterator[list[Replica]]:
    held = make(directory, replicas)
    async with AsyncExitStack() as stack:
        stack.callback(held.release)
        found = []
        for index in range(replicas):
            replica = Replica(load_config(home_of(directory, index), reuse_port=True))
            stack.push_async_callback(replica.stop)
            await replica.start()
            found.append(replica)
        yield found


def transfer(replica: Replica, salt: int, key: SigningKey = ALICE) -> Transaction:
    unsigned = Transaction(Transfer(ALICE.public, BOB.public, 1), 100_000, salt.to_bytes(16, "big"))
    signature = sign_transaction(unsigned, replica.genesis.chain_id, key)
    return Transaction(unsigned.payload, unsigned.valid_until_ms, unsigned.salt, (signature,))


async def test_nothing_leaves_before_its_turn_is_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "One fdatasync per turn of the loop, before any message of that turn leaves."."""
    unsynced: dict[int, int] = {}
    violations: list[str] = []
    syncs = 0
    sync, send, perform = Journal.sync, Link.send_nowait, Replica._perform
    current: list[Replica] = []

    def counted_sync(journal: Journal) -> None:
        nonlocal syncs
        sync(journal)
        syncs += 1
        unsynced[id(journal)] = 0

    def watched_perform(replica: Replica, effect: events.Effect) -> None:
        perform(replica, effect)
        if isinstance(effect, events.Journal) and not effect.lazy:
            unsynced[id(replica._journal)] = unsynced.get(id(replica._journal), 0) + 1

    def watched_send(link: Link, data: bytes) -> bool:
        owner = next((r for r in current if link in r._peers.links.values()), None)
        if owner is not None and unsynced.get(id(owner._journal)):
            violations.append(f"replica {owner.index} sent {len(data)} bytes before a sync")
        return send(link, data)

    monkeypatch.setattr(Journal, "sync", counted_sync)
    monkeypatch.setattr(Replica, "_perform", watched_perform)
    monkeypatch.setattr(Link, "send_nowait", watched_send)
    async with running(tmp_path) as replicas:
        current += replicas
        ids = replicas[0].submit([transfer(replicas[0], i) for i in range(50)])
        found = await replicas[0].wait_final(ids, 10_000)
    assert len(found) == 50
    assert violations == []
    assert syncs > 8


async def test_an_answer_leaves_by_the_link_of_its_question(tmp_path: Path) -> None:
    """A peer that came back meanwhile asked nothing, and would hold it against us."""

    class Wire:
        def __init__(self) -> None:
            self.sent: list[bytes] = []

        def send_nowait(self, data: bytes) -> None:
            self.sent.append(data)

    old, new = Wire(), Wire()
    async with running(tmp_path, replicas=1) as (replica,):
        links: Any = replica._peers.links
        links[1] = old
        replica._perform(events.Transmit(1, b"answer"))
        replica._perform(events.TransmitAll(b"news"))
        replica._perform(events.Transmit(2, b"to nobody"))
        links[1] = new
        replica._end_turn()
        links.clear()
    assert old.sent == [b"answer"]
    assert b"news" in new.sent and b"answer" not in new.sent


async def test_a_single_replica_orders_alone_and_comes_back(tmp_path: Path) -> None:
    """n = 1, f = 0. What was final before a stop is there after it, from the journal."""
    async with running(tmp_path, 1) as (replica,):
        follower = replica.subscribe()
        ids = replica.submit([transfer(replica, i) for i in range(3)])
        found = await replica.wait_final(ids, 5_000)
        assert {located.output.code for located in found.values()} == {"ok"}
        block = await follower.get()
        assert block is not None
        assert block.header.height == 1
        follower.close()
        head = replica.head()
    assert await follower.get() is None
    again = Replica(load_config(home_of(tmp_path, 0)))
    await again.start()
    try:
        assert again.head().header.height >= head.header.height
        assert again.head().state.balance(BOB.public) == 3
        assert await again.wait_final(ids, 5_000) == found  # from the database: it was final long ago
        assert again.store.height >= head.header.height
    finally:
        await again.stop()
        await again.stop()


async def test_a_lost_database_is_filled_from_the_journal(tmp_path: Path) -> None:
    """ "Written in bulk behind the journal, rebuildable from it."."""
    async with running(tmp_path, 1) as (replica,):
        ids = replica.submit([transfer(replica, i) for i in range(3)])
        await replica.wait_final(ids, 5_000)
    for path in (home_of(tmp_path, 0) / "data").glob("ledger.sqlite*"):
        path.unlink()
    again = Replica(load_config(home_of(tmp_path, 0)))
    await again.start()
    try:
        stored = again.store.transaction(ids[0])
        assert stored is not None
        assert stored.output.code == "ok"
    finally:
        await again.stop()


async def test_a_bad_signature_is_told_to_its_waiter(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as (replica,):
        forged = transfer(replica, 1, key=BOB)
        ids = replica.submit([forged])
        with pytest.raises(Refused, match="is not by account"):
            await replica.wait_final(ids, 5_000)
        both = replica.submit([transfer(replica, 2), forged])
        assert list(await replica.wait_final(both, 5_000)) == both[:1]


async def test_waiting_ends_in_time(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as (replica,):
        assert await replica.wait_final([b"?" * 32], 50) == {}


async def test_a_replica_without_its_journal_does_not_start(tmp_path: Path) -> None:
    """A replica that lost its journal might contradict itself."""
    make(tmp_path, 1).release()
    home = home_of(tmp_path, 0)
    for path in sorted((home / "data").rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    replica = Replica(load_config(home))
    with pytest.raises(LocalError, match="vote against its own votes"):
        await replica.start()
    await replica.stop()


async def test_two_processes_cannot_share_a_home(tmp_path: Path) -> None:
    async with running(tmp_path, 1):
        second = Replica(load_config(home_of(tmp_path, 0), reuse_port=True))
        with pytest.raises(LocalError, match="another process holds the journal"):
            await second.start()
        await second.stop()


async def test_a_disk_that_fails_stops_the_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "`LocalError` (ours) stops the process": nothing of the turn leaves, and callers hear nothing."""
    async with running(tmp_path, 1) as (replica,):

        def broken(_journal: Journal) -> None:
            raise LocalError("the disk is on fire")

        monkeypatch.setattr(Journal, "sync", broken)
        ids = replica.submit([transfer(replica, 1)])
        with pytest.raises(LocalError, match="on fire"):
            await asyncio.wait_for(replica.wait(), 5)
        assert await replica.wait_final(ids, 10) == {}
        with pytest.raises(Refused, match="stopping"):
            replica.submit([transfer(replica, 2)])


async def test_who_may_link(tmp_path: Path) -> None:
    """Only replicas with a lower key dial us, of this wire version, and not with an old journal."""
    async with running(tmp_path, 4) as replicas:
        one, keys = replicas[1], [replica._key.public for replica in replicas]
        good = encode(Greeting(WIRE_VERSION, 1))
        assert one._peers._admit(keys[0], good)
        with pytest.raises(Refusal, match="our_turn"):
            one._peers._admit(keys[2], good)
        assert not one._peers._admit(BOB.public, good)
        assert not one._peers._admit(keys[1], good)
        with pytest.raises(Refusal, match="wire"):
            one._peers._admit(keys[0], encode(Greeting(WIRE_VERSION + 1, 1)))
        assert not one._peers._admit(keys[0], b"")
        one.core.generations.peers[0] = 5
        assert one.refuse(0, 4) is not None
        assert one.refuse(0, 5) is None


async def linked(*replicas: Replica) -> None:
    async with asyncio.timeout(10):
        while not all(replica._peers.links for replica in replicas):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0.02)


async def test_another_wire_version_is_refused_with_a_clear_word_on_both_sides(tmp_path: Path) -> None:
    """ "A wire version in every hello": also of a release whose hello has more in it than ours."""
    async with running(tmp_path, 2) as (dialer, listener):
        await linked(dialer, listener)
        future = encode([WIRE_VERSION + 1, 1, "something new"])
        dialer._peers._greeting = lambda: future  # type: ignore[method-assign]
        await dialer._peers.links[1].close()
        async with asyncio.timeout(10):
            while "wire version" not in dialer._peers.problems.get(listener._key.public, ""):  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0.02)
        ours, theirs = WIRE_VERSION, WIRE_VERSION + 1
        assert f"speaks wire version {theirs}, this program {ours}" in listener._peers.problems[dialer._key.public]
        assert f"speaks wire version {ours}, this program {theirs}" in dialer._peers.problems[listener._key.public]
        assert "upgrade the older one" in dialer._peers.problems[listener._key.public]
        assert [row["problem"] for row in listener.endpoints()] == [listener._peers.problems[dialer._key.public], None]
        del dialer._peers._greeting
        await linked(dialer, listener)
        assert not dialer._peers.problems and not listener._peers.problems


async def test_the_wrong_key_or_genesis_is_named(tmp_path: Path) -> None:
    make(tmp_path, 2).release()
    (home_of(tmp_path, 0) / "key").write_text((home_of(tmp_path, 1) / "key").read_text())
    with pytest.raises(LocalError, match="holds the key of peers"):
        Replica(load_config(home_of(tmp_path, 0)))


async def test_a_slow_follower_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "SUBSCRIPTION_BLOCKS", 2)
    forgotten: list[BlockSubscription] = []
    follower = BlockSubscription(forgotten.append)
    block: Any = object()
    for _ in range(3):
        follower.put(block)
    assert await follower.get() is None
    assert forgotten == [follower]


async def test_a_fault_of_the_program_stops_the_replica(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that broke off may have left half a change: the process stops rather than guess."""
    async with running(tmp_path, 1) as (replica,):

        def broken(*_: object) -> None:
            raise ZeroDivisionError("a bug")

        monkeypatch.setattr(replica.core, "step", broken)
        replica.submit([transfer(replica, 1)])
        with pytest.raises(LocalError, match=r"a fault of this program .*a bug"):
            await asyncio.wait_for(replica.wait(), 5)


async def test_a_share_of_the_pool_is_refused_over_http_with_both_numbers(tmp_path: Path) -> None:
    async with running(tmp_path, 1) as [replica]:
        replica.core.pool = Mempool(PoolLimits(per_source=1), replica.genesis.parameters)
        body = encode([encode(transfer(replica, salt)) for salt in range(2)])
        headers = {"Content-Type": "application/msgpack"}
        url = f"http://127.0.0.1:{replica.api_port}/transactions"
        async with aiohttp.ClientSession() as session, session.post(url, data=body, headers=headers) as answer:
            assert answer.status == 429
            assert answer.headers["Retry-After"] == "1"
            problem = await answer.json(content_type=None)
        assert problem["code"] == "share_full"
        assert "address 127.0.0.1 would have 2 transactions waiting here, at most 1" in problem["detail"]
